"""Mistakes in spike_count: name, path, what becomes what, and tests if they are others."""

TESTS = ("tests/ops/test_spike_count.py",)
MISTAKES = (
    (
        "spike_count: > for >=",
        "csrc/core/spike_count.h",
        "fired = h >= threshold",
        "fired = h > threshold",
    ),
    (
        "spike_count: soft reset to 0",
        "csrc/core/spike_count.h",
        "v_reset : h - threshold)",
        "v_reset : C(0))",
    ),
    (
        "spike_count: starts at 0 under a hard reset",
        "csrc/core/spike_count.h",
        "out[kVReset] = a.v_reset.value_or(0.);",
        "out[kVReset] = 0.;",
    ),
    (
        "spike_count: counts its silence",
        "csrc/core/spike_count.h",
        "fired ? C(1) : C(0)",
        "fired ? C(0) : C(1)",
    ),
    (
        "spike_count: results swapped",
        "csrc/ops/spike_count.cpp",
        "return {count_out, v_out};",
        "return {v_out, count_out};",
    ),
    (
        "spike_count: reference: count forgets what was",
        "snnfast/reference/spike_count.py",
        "else call.count.clone()",
        "else torch.zeros_like(v)",
    ),
)
