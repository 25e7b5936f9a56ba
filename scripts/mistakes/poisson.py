"""Mistakes in poisson: name, path, what becomes what, and tests if they are others."""

TESTS = (
    "tests/ops/test_poisson.py",
    "tests/ops/test_poisson_distribution.py",
    "tests/ops/test_poisson_errors.py",
)
MISTAKES = (
    ("poisson: <= for <", "csrc/core/poisson.h", "return uniform < p;", "return uniform <= p;"),
    ("poisson: 23 bits", "csrc/core/poisson.h", "word >> 8)", "word >> 9)"),
    (
        "poisson: upper half of the counter dropped",
        "csrc/core/poisson.h",
        "static_cast<uint32_t>(c >> 32), 0, 0}",
        "0, 0, 0}",
    ),
    (
        "poisson: upper half of the seed dropped",
        "csrc/core/poisson.h",
        "static_cast<uint32_t>(key >> 32)",
        "0u",
    ),
    (
        "poisson: cpu: second row of a block reads the first",
        "csrc/cpu/poisson.cpp",
        "compare(split, count, a.p);",
        "compare(split, count, a.p + n);",
    ),
    (
        "poisson: 1 in float16 is that of bfloat16",
        "csrc/ops/poisson.cpp",
        "return 0x3c00;",
        "return 0x3f80;",
    ),
    (
        "poisson: number of elements unchecked",
        "csrc/ops/poisson.cpp",
        '  elements("poisson", shape);\n',
        "",
    ),
)
