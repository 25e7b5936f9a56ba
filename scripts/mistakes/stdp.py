"""Mistakes in stdp and in the rules of plasticity: name, path, what becomes what."""

TESTS = (
    "tests/ops/test_stdp.py",
    "tests/ops/test_stdp_by_hand.py",
    "tests/ops/test_stdp_layouts.py",
    "tests/ops/test_stdp_errors.py",
)
DIEHL_COOK = (
    "tests/ops/test_diehl_cook.py",
    "tests/ops/test_diehl_cook_by_hand.py",
    "tests/ops/test_diehl_cook_errors.py",
)
CPU, CUDA, RULE = "csrc/cpu/stdp.cpp", "csrc/cuda/stdp.cu", "csrc/core/plasticity.h"
MISTAKES = (
    (
        "trace set, not incremented",
        RULE,
        "(all ? decayed + C(1) : C(1))",
        "C(1)",
        (*TESTS, *DIEHL_COOK),
    ),
    ("bounds swapped", RULE, "w < p.w_min ? p.w_min", "w < p.w_min ? p.w_max"),
    ("second trace not decayed", CPU, "x2[i] = trace2[i] * decay2;", "x2[i] = trace2[i];"),
    (
        "loss of the step before kept",
        CPU,
        "k.lost[touched[f] * kRows<C> + r] = 0;",
        "k.lost[touched[f] * kRows<C> + r] *= 1;",
    ),
    ("rows of zeros normalised", CPU, "if (!(total[r] > 0)) continue;", ""),
    ("reward of another chunk", CPU, "(a.reward)[a.t0 * a.B + index]", "(a.reward)[index]"),
    (
        "cuda: step ends with the tile",
        CUDA,
        "|| q0 + end < (t + 1) * a.B) continue;",
        ") continue;",
    ),
    ("cuda: sums of earlier chunks lost", CUDA, "!a.each_step && a.t0 > 0;", "false;"),
    ("cuda: -0 is a spike", CUDA, "[at] & 0x7fffffffu) != 0", "[at]) != 0"),
    ("batch not averaged", "snnfast/calls/stdp.py", "1.0 / max(batch, 1) if", "1.0 if"),
    (
        "version not raised",
        "snnfast/ops/in_place.py",
        "increment_version([t for t in tensors if not t.is_inference()])",
        "increment_version([])",
    ),
)
