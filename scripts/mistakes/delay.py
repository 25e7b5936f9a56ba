"""Mistakes in delay: name, path, what becomes what, and tests if they are others."""

TESTS = ("tests/ops/test_delay.py",)
MISTAKES = (
    (
        "delay: the other neighbour",
        "csrc/core/delay.h",
        "::floor(static_cast<double>(d - radius)) + 1.",
        "::floor(static_cast<double>(d - radius))",
    ),
    (
        "delay: the derivative to the left",
        "csrc/core/delay.h",
        "at <= d ? -scale : scale",
        "at < d ? -scale : scale",
    ),
    (
        "delay: a clamped delay has a gradient",
        "csrc/core/delay.h",
        "return clamped || outside(at)",
        "return outside(at)",
    ),
    (
        "delay: the triangle is not scaled",
        "csrc/core/delay.h",
        "static_cast<C>(1. / (a.radius * a.radius))",
        "C(1)",
    ),
    (
        "delay: cpu: a stage too few",
        "csrc/cpu/delay.cpp",
        "while (longest_ >> stages_) stages_++;",
        "while (longest_ >> (stages_ + 1)) stages_++;",
    ),
    (
        "delay: cpu: past is not read far enough",
        "csrc/cpu/delay.cpp",
        "return longest_ + taps_ - 1;",
        "return longest_;",
    ),
    (
        "delay: cpu: weights of the block before",
        "csrc/cpu/delay.cpp",
        "if (m > m_ || (a_.d.data &&",
        "if (m > m_ || (!a_.d.data &&",
    ),
    (
        "delay: cpu: a stage keeps too few rows",
        "csrc/cpu/delay.cpp",
        "(tiles & (q / kRows - 1)) * kRows * L",
        "0",
    ),
    (
        "delay: cpu: a sum from other rows",
        "csrc/cpu/delay.cpp",
        "vector_at(last) = now[kRows - 1];",
        "vector_at(last) = now[kRows - 2];",
    ),
    (
        "delay: cuda: past from its first step",
        "csrc/cuda/delay.cu",
        "Reader<T, V>(a.past, t + a.P, n)",
        "Reader<T, V>(a.past, -1 - t, n)",
    ),
    (
        "delay: cuda: x before all lanes are past the beginning",
        "csrc/cuda/delay.cu",
        "value = max(value, __shfl_xor_sync(~0u, value, offset));",
        "value = min(value, __shfl_xor_sync(~0u, value, offset));",
    ),
    (
        "delay: cuda: neighbours with delays of their own share one",
        "csrc/cuda/delay.cu",
        "a.d.inner % V == 0",
        "true",
    ),
    (
        "delay: no gradient of past",
        "csrc/cpu/delay.cpp",
        "t < 0 ? past_ : data_",
        "t < 0 ? nullptr : data_",
    ),
    (
        "delay: layer: what is under way is cut",
        "snnfast/nn/delay.py",
        "math.ceil(self.max_delay + self.sigma + 1)",
        "math.ceil(self.max_delay + self.sigma) - 1",
        ("tests/nn/test_delay.py",),
    ),
)
