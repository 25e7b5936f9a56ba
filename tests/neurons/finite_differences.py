"""The recursion of the reference against finite differences.

A hard spike has no useful finite differences. With a soft spike, whose derivative is the surrogate, the same recursion
is smooth, and its gradient must equal finite differences, along random directions (``fast_mode``).
"""

import torch
from samples import PRIMITIVES, Sample, learned, over_neurons, rich

RESETS = (None, 0.0, -0.3)


def soft_recursions(op):
    """Return a variant with every reset and a smooth surrogate each, the others with one of the resets."""
    if not op.fires:
        return []
    resets = [(op, rich(op), name, v_reset) for name, v_reset in zip(("atan", "sigmoid", "gaussian"), RESETS)]
    return resets + [(op, v, "atan", RESETS[k % 3]) for k, v in enumerate(learned(op))]


@over_neurons("op variant name v_reset", soft_recursions)
def test_gradient_of_the_soft_recursion_is_that_of_finite_differences(op, variant, name, v_reset):
    arguments = Sample(op, variant, (6, 3), torch.float64).arguments()
    if not isinstance(arguments.get("v_reset"), torch.Tensor):
        arguments["v_reset"] = v_reset
    arguments["return_v_seq"] = True
    if op.runs_away:
        arguments["x"] *= 0.25  # small, for membranes that grow without input
    alpha = 0.8  # small, so that no soft spike rounds to 1
    arguments["surrogate"] = lambda u: PRIMITIVES[name](u, alpha)
    names = [k for k, a in arguments.items() if isinstance(a, torch.Tensor)]

    def function(*values):
        outputs = op.reference(**{**arguments, **dict(zip(names, values, strict=True))})
        return tuple(out for out in outputs if out is not None)

    inputs = [arguments[k].requires_grad_() for k in names]
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-6, fast_mode=True)


@over_neurons("op", lambda op: [] if op.fires else [op])
def test_gradient_of_a_readout_is_that_of_finite_differences(op):
    arguments = Sample(op, "decay_each", (6, 4), torch.float64).arguments()
    names = list(arguments)
    inputs = [a.requires_grad_() for a in arguments.values()]
    for function in (op, op.reference):
        assert torch.autograd.gradcheck(lambda *values, f=function: f(**dict(zip(names, values, strict=True))), inputs)
