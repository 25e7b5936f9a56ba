"""Mistakes in spikeprop: name, path, what becomes what, and tests if they are others."""

TESTS = (
    "tests/ops/test_spikeprop.py",
    "tests/ops/test_spikeprop_grid.py",
    "tests/ops/test_spikeprop_gradients.py",
    "tests/ops/test_spikeprop_layouts.py",
    "tests/ops/test_spikeprop_errors.py",
    "tests/ops/test_spikeprop_registration.py",
)
MISTAKES = (
    (
        "spikeprop: second piece of the batch dropped",
        "csrc/cpu/spikeprop_backward.h",
        "piece = 1; piece < pieces;",
        "piece = 2; piece < pieces;",
    ),
    (
        "spikeprop: pieces overlap",
        "csrc/cpu/spikeprop_backward.h",
        "const int64_t first = piece * a.events.B / m.pieces,",
        "const int64_t first = piece * a.events.B / m.pieces - (piece > 0),",
    ),
    (
        "spikeprop: tape unchecked",
        "csrc/cpu/spikeprop_backward.h",
        "if (!fits(a, b)) return false;",
        "",
    ),
    (
        "spikeprop: slope not bounded",
        "csrc/cpu/spikeprop_backward.h",
        "(slope[l] > guard ? slope[l] : guard)",
        "slope[l]",
    ),
    (
        "spikeprop: events at t_max count",
        "csrc/cpu/spikeprop.cpp",
        "!(times[n - 1] < static_cast<C>(events.t_max))",
        "!(times[n - 1] <= static_cast<C>(events.t_max))",
    ),
    (
        "spikeprop: touch between two events missed",
        "csrc/cpu/spikeprop.cpp",
        "top, c.inverse_tau) >= c.threshold) fired |=",
        "top, c.inverse_tau) >= 2 * c.threshold) fired |=",
    ),
    (
        "spikeprop: cuda: a kink gives nothing",
        "csrc/cuda/spikeprop_backward.cuh",
        "m.kink[i] = before;",
        "m.kink[i] = -1;",
    ),
    (
        "spikeprop: sorted by all digits but the first",
        "csrc/cuda/spikeprop_events.cuh",
        "for (int shift = 0; shift",
        "for (int shift = kDigit; shift",
    ),
    (
        "spikeprop: wrong tensor wanted",
        "snnfast/ops/spikeprop.py",
        "_, _, *wanted = ctx.needs_input_grad",
        "*wanted, _, _ = ctx.needs_input_grad",
    ),
)
