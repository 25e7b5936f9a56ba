"""Mistakes in refractory periods and several spikes: name, path, what becomes what, and tests if they are others."""

TESTS = (
    "tests/ops/test_refractory.py",
    "tests/ops/test_cuba.py",
    "tests/ops/test_alif.py",
    "-k",
    "refractory or several or silent or strict or outputs_equal_the_reference or test_gradients_equal_the_reference",
)
PATH = "csrc/core/refractory.h"
MISTAKES = (
    ("refractory: a step too long", PATH, "state[kR] - C(1) : C(0)", "state[kR] - C(0.5) : C(0)"),
    ("refractory: it fires nevertheless", PATH, "return silent(charged) ? C(0) : (", "return ("),
    ("refractory: input is taken in", PATH, "silent(state) ? held : state[0]", "state[0]"),
    ("refractory: input has a gradient", PATH, "silent(before) ? C(0) : grad[0]", "grad[0]"),
    (
        "refractory: the membrane held has none",
        PATH,
        "silent(before) ? grad[0] : C(0)",
        "C(0) * grad[0]",
    ),
    (
        "refractory: gradient through a spike that cannot be",
        "csrc/core/neuron.h",
        "Neuron::silent(charged) ? C(0) : grad_spikes * slope",
        "grad_spikes * slope",
    ),
    ("several: as many as there are", PATH, "(k < c[kMost] ? k : c[kMost])", "k"),
    ("several: the slope of the first alone", PATH, "return k > C(1) ? (", "return k > C(9) ? ("),
    (
        "several: the threshold's gradient of one",
        PATH,
        "multiple(charged, c) * grad_threshold",
        "grad_threshold",
    ),
    (
        "several: a reset by one",
        "csrc/core/leaky.h",
        "h - times(s, c[kThreshold])",
        "h - times(s != 0, c[kThreshold])",
    ),
    (
        "refractory: reference: a step too long",
        "snnfast/reference/neuron.py",
        "torch.where(r > 1, r - 1, 0.0)",
        "torch.where(r > 0.5, r - 0.5, 0.0)",
    ),
)
