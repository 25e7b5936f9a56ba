"""Mistakes in bp_stdp_network and in presentations: name, path, what becomes what."""

TESTS = (
    "tests/ops/test_bp_stdp_network.py",
    "tests/ops/test_bp_stdp_network_errors.py",
    "tests/ops/test_bp_stdp_network_parts.py",
    "tests/ops/test_bp_stdp_networks.py",
    "tests/ops/test_presentations.py",
)
CORE, CPU, CUDA, OPS = (
    "csrc/core/bp_stdp_network.h",
    "csrc/cpu/bp_stdp_network.cpp",
    "csrc/cuda/bp_stdp_network.cu",
    "csrc/ops/bp_stdp_network.cpp",
)
PRESENTATIONS = "csrc/ops/presentations.h"
MISTAKES = (
    ("spikes ahead added twice", CPU, "known ? offsets[t + 1] : offsets[t];", "offsets[t];"),
    ("weights change at the end", CPU, "+ p]) return t + 1;", "+ p]) return a_.x.T;"),
    ("hidden weights not changed", CPU, "      if (l > 0)\n", "      if (l > 1)\n"),
    (
        "membranes of the first layer only",
        CPU,
        "if (a_.return_state) parallel",
        "if (false) parallel",
    ),
    ("cuda: > for >=", CUDA, "mine && v >= threshold;", "mine && v > threshold;"),
    ("cuda: old weights", CUDA, "      packed[at[q] * stride] = weight[q];\n", ""),
    ("cuda: weights change at the end", CUDA, "_or(any)) return t + 1;", "_or(any)) return x_.T;"),
    ("cuda: rows not changed", CUDA, "rows = l > 0 &&", "rows = l > 1 &&"),
    ("cuda: a part's weights to others not changed", CUDA, "      w = weight;\n", ""),
    (
        "cuda: parts pass errors of others' neurons back",
        CUDA,
        "at = k * x.N + first + j;",
        "at = k * x.N + first / 2 + j;",
    ),
    ("cuda: labels of the first network", CUDA, "network_ * a_.labels_stride + p0_", "p0_"),
    ("labels of the first network", CORE, "a.labels += k * labels_stride", "a.labels += 0"),
    ("membranes of the first network", CORE, "membranes = k *", "membranes = 0 *"),
    ("the rate of the first network", CORE, "lrs ? lrs[k]", "lrs ? lrs[0]"),
    ("thresholds of the first network", CORE, "thresholds[k * layers + l]", "thresholds[l]"),
    ("threshold of 0 in float32", OPS, "static_cast<float>(threshold)) > 0", "threshold) > 0"),
    ("shared memory", OPS, "!overlap(weights[k], w)", "true"),
    (
        "weights twice",
        "snnfast/calls/bp_stdp_network.py",
        "if check.overlap(a, b):",
        "if a is None:",
    ),
    ("inputs unchecked", PRESENTATIONS, "SNNFAST_CHECK(inputs_fit,", "STD_TORCH_CHECK(true,"),
    (
        "offsets unchecked",
        PRESENTATIONS,
        "offsets_fit = offsets[0] >= 0 && offsets[x.T] <= fired;",
        "",
    ),
    ("steps uncounted", "snnfast/calls/presentations.py", ">= 2**31:", ">= 2**99:"),
    (
        "cuda: events unbounded",
        "csrc/cuda/presentations.cu",
        "value < 0 ? 0 : value > most ? static_cast<T>(most) : value;",
        "value;",
    ),
)
