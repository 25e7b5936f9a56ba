"""Mistakes in Pooled and in sums of gradients over steps: name, path, what becomes what, tests if they are others."""

TESTS = ("tests/nn/test_pooled.py",)
TIME = (
    "tests/nn/test_time.py",
    "tests/nn/test_time_formats.py",
    "tests/nn/test_time_readouts.py",
    "tests/nn/test_time_repeats.py",
)
MISTAKES = (
    (
        "pooled: every step is pooled into the first",
        "csrc/ops/pooled.h",
        "(t * window_.N + first) * windows_",
        "first * windows_",
    ),
    (
        "pooled: rows of windows where rows are left over",
        "csrc/ops/pooled.h",
        "bool by_rows = window_.H % kernel_h == 0;",
        "bool by_rows = true;",
    ),
    (
        "pooled: all units begin with the first one's state",
        "csrc/ops/pooled.h",
        "for (auto& pointer : a.state_in) pointer = advanced(pointer, state);",
        "",
    ),
    (
        "pooled: rows of windows where parameters differ within an image",
        "csrc/ops/pooled.h",
        "by_rows = by_rows && row % span == 0;",
        "",
    ),
    (
        "pooled: checkpoints of a part lie as if it were all",
        "csrc/cpu/neuron_loop.h",
        "((segment - 1) * Neuron::kStates + k) * a.N_all + n0",
        "((segment - 1) * Neuron::kStates + k) * a.N + n0",
    ),
    (
        "pooled: checkpoints of a strip of a part lie as if it were all",
        "csrc/cpu/neuron_strip.h",
        "(t0 / K - 1) * Neuron::kStates * a.N_all",
        "(t0 / K - 1) * Neuron::kStates * a.N",
    ),
    (
        "pooled: channels-last is found by strides, which one image does not have",
        "snnfast/ops/neuron.py",
        "order = _CHANNELS_LAST if kind.pooled else None",
        "order = None",
    ),
    (
        "repeat: the sum over the steps instead of the mean",
        "csrc/cpu/neuron_lines.h",
        "sum[i] *= share;",
        "sum[i] *= 1;",
        TIME,
    ),
    (
        "repeat: only the last segment counts",
        "csrc/cpu/neuron_lines.h",
        "sums[i] += row[i];",
        "sums[i] = row[i];",
        TIME,
    ),
)
