"""Mistakes in spike_linear: name, path, what becomes what, and tests if they are others."""

TESTS = (
    "tests/ops/test_spike_linear.py",
    "tests/ops/test_spike_linear_gradients.py",
    "tests/ops/test_spike_linear_registration.py",
    "tests/ops/test_spike_linear_errors.py",
    "tests/ops/test_spike_linear_layer.py",
)
MISTAKES = (
    ("events up to another share", "csrc/core/spike_linear.h", "? 0.15 : 0.4", "? 0.15 : 0.41"),
    (
        "copies are free",
        "csrc/core/spike_linear.h",
        "additions + 4 * copied",
        "additions + copied",
    ),
    (
        "a product over few outputs costs no more than its multiplications",
        "csrc/core/spike_linear.h",
        "outputs + (outputs < 4 ? 4 * outputs : 16)",
        "outputs",
    ),
    (
        "the last inputs have no gradient",
        "csrc/cpu/spike_linear.cpp",
        "if (i < a.inputs) grad_inputs",
        "if (i > a.inputs) grad_inputs",
    ),
    (
        "bits are transposed in blocks of 32 alone",
        "csrc/cpu/spike_linear.cpp",
        "for (int64_t size = 32; size; size /= 2",
        "for (int64_t size = 32; size; size /= 64",
    ),
    (
        "-0 is a spike",
        "csrc/cpu/spike_bits.cpp",
        "find<uint32_t>(a, begin, end, 0x7fffffffu,",
        "find<uint32_t>(a, begin, end, 0xffffffffu,",
    ),
    (
        "1 in bfloat16 is another value",
        "csrc/cpu/spike_bits.cpp",
        "find<uint16_t>(a, begin, end, 0x7fff, 0x3f80, found)",
        "find<uint16_t>(a, begin, end, 0x7fff, 0x3f00, found)",
    ),
    (
        "sums start anew in each chunk",
        "csrc/cpu/spike_linear.cpp",
        "const C* from = c ? to : bias;",
        "const C* from = bias;",
    ),
    (
        "a table of the chunk before",
        "csrc/cpu/spike_linear.cpp",
        "(a.chunks > 1 || n0 == begin)",
        "n0 == begin",
    ),
    (
        "what only some of the sums side by side have is left out",
        "csrc/cpu/spike_linear.cpp",
        "for (; e[r] < end[r]; e[r]++)",
        "for (; e[r] < end[0] && r == 0; e[r]++)",
    ),
    (
        "values count as ones",
        "csrc/cpu/spike_linear.cpp",
        "if (a.values)\n        sum_block",
        "if (a.values && a.chunks > 1)\n        sum_block",
    ),
    (
        "weights read in place whatever their order",
        "csrc/ops/spike_linear.cpp",
        "return input_major() && (dtype",
        "return (dtype",
    ),
    (
        "a dense gradient of ones whatever x was",
        "csrc/ops/spike_linear.cpp",
        "const Tensor values = scaled ? ",
        "const Tensor values = false ? ",
    ),
    (
        "values kept as bits",
        "snnfast/ops/spike_linear.py",
        "if not (weight_wanted and found[_OTHERS]):",
        "if True:",
    ),
    (
        "reference: bias forgotten",
        "snnfast/reference/spike_linear.py",
        "y = y + call.bias.to(dtype)",
        "y = y + 0 * call.bias.to(dtype)",
    ),
)
