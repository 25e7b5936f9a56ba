"""Mistakes in bp_stdp: name, path, what becomes what."""

TESTS = ("tests/ops/test_bp_stdp.py",)
CPU, ROWS, CUDA = "csrc/cpu/bp_stdp.cpp", "csrc/cpu/bp_stdp.h", "csrc/cuda/bp_stdp.cu"
MISTAKES = (
    ("window one step longer", CPU, "if (t > a.epsilon) {", "if (t > a.epsilon + 1) {"),
    ("-0 is a spike", CPU, "0x7fffffffu);", "0xffffffffu);"),
    (
        "errors of the first piece",
        ROWS,
        "errors[(k0 + k) * error_stride + o]",
        "errors[k * error_stride + o]",
    ),
    ("error passed to the silent", ROWS, "window[i] > 0 ? to[i] : 0", "to[i]"),
    ("cuda: window one step longer", CUDA, "if (t > epsilon) count", "if (t > epsilon + 1) count"),
    ("cuda: error passed to the silent", CUDA, "if (windows[e] > 0)", "if (true)"),
    ("batch not averaged", "snnfast/calls/bp_stdp.py", "rate / max(batch, 1) if", "rate if"),
    (
        "reference: window one step longer",
        "snnfast/reference/bp_stdp.py",
        "if t > epsilon:",
        "if t > epsilon + 1:",
    ),
)
