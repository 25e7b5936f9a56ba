"""Mistakes in spike_conv2d: name, path, what becomes what, and tests if they are others."""

TESTS = ("tests/ops/test_spike_conv2d.py",)
MISTAKES = (
    (
        "spike_conv2d: a value that is not 1 counts as 1",
        "csrc/cpu/spike_conv2d.cpp",
        "sums[v] += Ones ? w : w * e.values[k];",
        "sums[v] += w;",
    ),
    (
        "spike_conv2d: the first column is left out",
        "csrc/cpu/spike_conv2d.cpp",
        "first = larger(0, x0)",
        "first = larger(1, x0)",
    ),
    (
        "spike_conv2d: groups of gradients but the first are lost",
        "csrc/cpu/spike_conv2d.cpp",
        "group < a.groups; group++)",
        "group < 1; group++)",
    ),
    (
        "spike_conv2d: channels after the last whole line are not seen",
        "csrc/cpu/spike_conv2d.cpp",
        "for (; c < n; c++)",
        "for (; c < 0; c++)",
    ),
    (
        "spike_conv2d: the rule forgets that outputs come in lines",
        "csrc/core/spike_conv2d.h",
        "static_cast<double>(lines) <=",
        "static_cast<double>(a.O) <=",
    ),
    (
        "spike_conv2d: padding of rows for columns",
        "snnfast/ops/spike_conv2d.py",
        "padding=(padding_h, padding_w)",
        "padding=(padding_w, padding_h)",
    ),
)
