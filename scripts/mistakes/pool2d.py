"""Mistakes in pool2d: name, path, what becomes what, and tests if they are others."""

TESTS = ("tests/ops/test_pool2d.py",)
MISTAKES = (
    (
        "pool2d: the last of equal maxima has the gradient",
        "csrc/cpu/pool2d.cpp",
        "(value > best) |",
        "(value >= best) |",
    ),
    (
        "pool2d: NaN is skipped",
        "csrc/cpu/pool2d.cpp",
        "(value > best) | (value != value)",
        "(value > best)",
    ),
    (
        "pool2d: rows behind the last window keep what was there",
        "csrc/cpu/pool2d.cpp",
        "i = kh * row; last &&",
        "i = kh * row; false &&",
    ),
    (
        "pool2d: channels behind the last whole vector are read too far",
        "csrc/cpu/pool2d.cpp",
        "min(c, C - L)",
        "c",
    ),
    (
        "pool2d: Time pools windows that overlap",
        "snnfast/nn/time.py",
        "stride == kernel and padding",
        "padding",
    ),
)
