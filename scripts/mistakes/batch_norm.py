"""Mistakes in batch_norm: name, path, what becomes what, and tests if they are others."""

TESTS = ("tests/ops/test_batch_norm.py",)
MISTAKES = (
    (
        "batch_norm: one block's sums are forgotten",
        "csrc/ops/batch_norm.cpp",
        "for (int64_t u = 0; u < blocks; u++)",
        "for (int64_t u = 0; u < std::max<int64_t>(blocks - 1, 1); u++)",
    ),
    (
        "batch_norm: deviations are taken from 0",
        "csrc/ops/batch_norm.cpp",
        "center[c] += row[c] / static_cast<double>(some);",
        "center[c] = 0;",
    ),
    (
        "batch_norm: what a float leaves of the mean is lost",
        "csrc/ops/batch_norm.cpp",
        "of.shift[c] -= of.slope[c] * below_float(of.mean[c]);",
        "",
    ),
    (
        "batch_norm: rows behind those side by side are not written",
        "csrc/ops/batch_norm.cpp",
        "if (whole < rows) part(whole, rows - whole, 1);",
        "",
    ),
    (
        "batch_norm: the gradient does not go through the variance",
        "csrc/ops/batch_norm.cpp",
        "slope[c] = -sum_z[c] / n * rstd[c];",
        "slope[c] = 0;",
    ),
    (
        "batch_norm: Time gives blocks with a normalisation channels-last images",
        "snnfast/nn/time.py",
        "y.dim() == 4 and _holds_norm(layer)",
        "y.dim() == 4 and False",
    ),
    (
        "NormLIF: the gradient of weights is not divided by the scale",
        "snnfast/nn/normlif.py",
        "(sum_z / scale)",
        "(sum_z * scale)",
        ("tests/nn/test_normlif.py",),
    ),
)
