"""The recursion of the reference against finite differences.

A hard spike has no finite differences. With a soft spike, whose derivative the surrogate is, the same recursion is
smooth, and its gradient must be that of finite differences.
"""

import math

import pytest
import torch
from samples import OPS, SURROGATES, Sample

from snnfast import surrogate
from snnfast.surrogate import _DEFAULT_ALPHA as DEFAULT_ALPHA

PRIMITIVES = {
    "atan": lambda u, a: torch.atan(math.pi / 2 * a * u) / math.pi + 0.5,
    "sigmoid": lambda u, a: torch.sigmoid(a * u),
    "fast_sigmoid": lambda u, a: u / (1 + a * u.abs()),
    "rectangle": lambda u, a: (a * u + 0.5).clamp(0, 1),
    "triangle": lambda u, a: torch.where(
        a * u.abs() >= 1, 0.5 * u.sign() + 0.5, a * u - 0.5 * a**2 * u * u.abs() + 0.5
    ),
    "gaussian": lambda u, a: 0.5 + 0.5 * torch.erf(a * u),
    "straight_through": lambda u, a: u + 0.0 * a,
}


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("alpha", [None, 0.7, 3.0])
def test_surrogate_is_the_derivative_of_its_soft_spike(name, alpha):
    chosen = surrogate.Surrogate(name, alpha or DEFAULT_ALPHA[name])
    u = torch.linspace(-3, 3, 1001, dtype=torch.float64) + 1e-4  # no kink among them
    u.requires_grad_()
    (want,) = torch.autograd.grad(PRIMITIVES[name](u, chosen.alpha).sum(), u)
    torch.testing.assert_close(chosen.derivative(u.detach()), want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", SURROGATES[:-1])
def test_surrogate_is_even_nonnegative_and_largest_at_the_threshold(name):
    chosen = surrogate.resolve(name)
    u = torch.arange(-500, 501, dtype=torch.float64) / 100
    d = chosen.derivative(u)
    assert (d >= 0).all()
    assert torch.equal(d, d.flip(0))
    assert d.max() == d[500]


@pytest.mark.parametrize("name", ["atan", "sigmoid", "rectangle", "triangle", "gaussian"])
@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
def test_soft_spike_rises_from_0_to_1(name, alpha):
    chosen = surrogate.Surrogate(name, alpha)
    u = torch.linspace(-1000, 1000, 4_000_001, dtype=torch.float64)
    area = torch.trapezoid(chosen.derivative(u), u).item()
    assert area == pytest.approx(1.0, abs=3e-3)


SMOOTH = ("atan", "sigmoid", "gaussian")


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("op", [op for op in OPS.values() if op.fires], ids=lambda op: op.name)
@pytest.mark.parametrize("v_reset", [0.0, -0.3, None], ids=["hard", "hard-0.3", "soft"])
def test_gradient_of_the_soft_recursion_is_that_of_finite_differences(op, name, v_reset):
    variant = "all_tensors" if "all_tensors" in op.variants else "threshold_each"
    arguments = Sample(op, variant, (6, 4), torch.float64).arguments()
    arguments = {**arguments, "v_reset": v_reset, "return_v_seq": True}
    alpha = 0.8  # gentle, so that no spike is 1 to the last bit
    arguments["surrogate"] = lambda u: PRIMITIVES[name](u, alpha)
    names = [k for k, a in arguments.items() if isinstance(a, torch.Tensor)]

    def function(*values):
        outputs = op.reference(**{**arguments, **dict(zip(names, values, strict=True))})
        return tuple(out for out in outputs if out is not None)

    inputs = [arguments[k].requires_grad_() for k in names]
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("op", [op for op in OPS.values() if not op.fires], ids=lambda op: op.name)
def test_gradient_of_a_readout_is_that_of_finite_differences(op):
    arguments = Sample(op, "decay_each", (6, 4), torch.float64).arguments()
    names = list(arguments)
    inputs = [a.requires_grad_() for a in arguments.values()]
    for function in (op, op.reference):
        assert torch.autograd.gradcheck(
            lambda *values, f=function: f(**dict(zip(names, values, strict=True))), inputs
        )


@pytest.mark.parametrize("name", SURROGATES)
def test_calling_a_surrogate_gives_spikes_with_its_gradient(name):
    chosen = surrogate.resolve(name)
    u = torch.tensor([-1.0, -1e-30, 0.0, 1e-30, 0.3], requires_grad=True)
    spikes = chosen(u)
    assert spikes.tolist() == [0, 0, 1, 1, 1]
    (grad,) = torch.autograd.grad(spikes.sum(), u)
    assert torch.equal(grad, chosen.derivative(u.detach()))
