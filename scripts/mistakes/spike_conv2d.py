"""Mistakes in spike_conv2d: name, path, what becomes what, and tests if they are others."""

TESTS = (
    "tests/ops/test_spike_conv2d.py",
    "tests/ops/test_spike_conv2d_gradients.py",
    "tests/ops/test_spike_conv2d_errors.py",
    "tests/ops/test_spike_conv2d_layer.py",
)
MISTAKES = (
    (
        "spike_conv2d: a value that is not 1 counts as 1",
        "csrc/cpu/spike_conv2d.cpp",
        "sums[v] += Ones ? w : w * e.values[k];",
        "sums[v] += w;",
    ),
    (
        "spike_conv2d: a value that is not 1 counts as 1 for up to 16 outputs",
        "csrc/cpu/spike_conv2d.cpp",
        "sums[j][v] += Ones ? w : w * e.values[k];",
        "sums[j][v] += w;",
    ),
    (
        "spike_conv2d: the columns of up to 16 outputs begin outside of y",
        "csrc/cpu/spike_conv2d.cpp",
        "left = KW - 1 - a.pad_w",
        "left = 0",
    ),
    (
        "spike_conv2d: a row of up to 16 outputs begins with the one that stood there",
        "csrc/cpu/spike_conv2d.cpp",
        "    start(done);",
        "",
    ),
    (
        "spike_conv2d: every second event of few outputs is lost",
        "csrc/cpu/spike_conv2d.cpp",
        "two ? sums[j][v] + others[v] : sums[j][v];",
        "sums[j][v];",
    ),
    (
        "spike_conv2d: the weights of a row of the kernel see the same gradient",
        "csrc/cpu/spike_conv2d.cpp",
        "(keys[k] - j) * width",
        "keys[k] * width",
    ),
    (
        "spike_conv2d: around a narrower block of gradients stands the one before",
        "csrc/cpu/spike_conv2d.cpp",
        "lines != padded_for",
        "padded_for == 0",
    ),
    (
        "spike_conv2d: the first column is left out",
        "csrc/cpu/spike_conv2d.cpp",
        "first = max(0, x0)",
        "first = max(1, x0)",
    ),
    (
        "spike_conv2d: groups of gradients but the first are lost",
        "csrc/cpu/spike_conv2d.cpp",
        "group < a.groups; group++)",
        "group < 1; group++)",
    ),
    (
        "spike_conv2d: bits of a pixel in the next word are not seen",
        "csrc/cpu/spike_conv2d.cpp",
        "if (at + n > 64) bits |=",
        "if (at + n > 128) bits |=",
    ),
    (
        "spike_conv2d: the bits of the next pixel are this one's, too",
        "csrc/cpu/spike_conv2d.cpp",
        "if (n < 64) bits &=",
        "if (n < 0) bits &=",
    ),
    (
        "spike_conv2d: values kept as bits",
        "snnfast/ops/spike_conv2d.py",
        "(others or not by_events)",
        "(not by_events)",
    ),
    (
        "spike_conv2d: with a stride a pixel is seen by all weights",
        "csrc/cpu/spike_conv2d.cpp",
        "if (right < 0 || right % a.stride_w) continue;",
        "if (right < 0) continue;",
    ),
    (
        "spike_conv2d: the rule forgets the copy of the weights",
        "csrc/core/spike_conv2d.h",
        " + 8 * weights <= dense",
        " <= dense",
    ),
    (
        "spike_conv2d: the gradient of x forgets to turn the weights round",
        "csrc/cpu/spike_conv2d.cpp",
        "taps + taps - 1 - tap",
        "taps + tap",
    ),
    (
        "spike_conv2d: the padding of the gradient of x is that of x",
        "snnfast/ops/spike_conv2d.py",
        "h - 1 - call.padding_h,",
        "call.padding_h,",
    ),
    (
        "spike_conv2d: the padding of the dense product is its stride",
        "snnfast/ops/spike_conv2d.py",
        "stride, padding = (call.stride_h, call.stride_w), (call.padding_h,",
        "padding, stride = (call.stride_h, call.stride_w), (call.padding_h,",
    ),
)
