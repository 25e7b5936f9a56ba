"""Surrogates: each is the derivative of a soft spike, its gradient, and the errors."""

import re

import pytest
import torch
from equations import plain_lif
from samples import PRIMITIVES, SURROGATES, assert_all

from snnfast import backend, ops, surrogate


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("alpha", [None, 0.7, 3.0])
def test_surrogate_is_the_derivative_of_its_soft_spike(name, alpha):
    chosen = surrogate.Surrogate(name, alpha or surrogate.resolve(name).alpha)
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
    torch.testing.assert_close(d, d.flip(0), rtol=0, atol=0)
    assert d.max() == d[500]


@pytest.mark.parametrize("name", ["atan", "sigmoid", "rectangle", "triangle", "gaussian"])
@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
def test_soft_spike_rises_from_0_to_1(name, alpha):
    chosen = surrogate.Surrogate(name, alpha)
    u = torch.linspace(-8, 8, 200_001, dtype=torch.float64).sinh()  # to 1490, in steps of 1e-4 around 0
    area = torch.trapezoid(chosen.derivative(u), u).item()
    assert area == pytest.approx(1.0, abs=3e-3)


@pytest.mark.parametrize("name", SURROGATES)
def test_calling_a_surrogate_gives_spikes_with_its_gradient(name):
    chosen = surrogate.resolve(name)
    u = torch.tensor([-1.0, -1e-30, 0.0, 1e-30, 0.3], requires_grad=True)
    spikes = chosen(u)
    assert spikes.tolist() == [0, 0, 1, 1, 1]
    (grad,) = torch.autograd.grad(spikes.sum(), u)
    torch.testing.assert_close(grad, chosen.derivative(u.detach()), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["sigmoid", "gaussian"])
def test_slopes_of_kernels_vanish_far_from_the_threshold(kernels, name, dtype):
    """Where the exponential is denormal it is 0, as in PyTorch; up to there the slopes are the same."""
    near, far = (80.0, 104.0) if dtype == torch.float32 else (700.0, 746.0)
    exponents = torch.tensor([0.0, 1.0, near, far, 2 * far, 1e30], dtype=dtype)
    u = exponents if name == "sigmoid" else exponents.sqrt()
    x = torch.cat([-u, u])[None].to(kernels.device).requires_grad_()
    chosen = surrogate.Surrogate(name, 1.0)
    want = chosen.derivative(x.detach())
    assert (want == 0).sum() == 6
    for op in (ops.lif, plain_lif) if kernels.name == "cpu" else (ops.lif,):
        spikes = op(x, decay=0.0, v_threshold=0.0, surrogate=chosen)[0]
        (grad,) = torch.autograd.grad(spikes.sum(), x)
        assert_all(grad[want == 0], 0.0)
        torch.testing.assert_close(grad, want, rtol=1e-5, atol=0)


def test_a_surrogate_under_torch_func_is_itself():
    """A slower form runs there, in the references, too."""
    chosen = surrogate.atan()
    u = torch.linspace(-1, 1, 12).view(3, 4)
    torch.testing.assert_close(torch.vmap(chosen)(u), chosen(u), rtol=0, atol=0)
    grad = torch.func.grad(lambda u: chosen(u).sum())
    for got in (grad(u), torch.vmap(grad)(u)):
        torch.testing.assert_close(got, chosen.derivative(u), rtol=0, atol=0)
    with backend.use("reference"):
        x = 3 * torch.rand(2, 9, 4)
        for v_reset in (0.0, None):
            got = torch.vmap(lambda x, reset=v_reset: ops.lif(x, v_reset=reset)[0])(x)
            want = torch.stack([ops.lif(sequence, v_reset=v_reset)[0] for sequence in x])
            torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::snnfast.backend.BackendWarning")
@pytest.mark.parametrize("wrong", [lambda u: u[:1], lambda u: u.double()])
def test_a_surrogate_of_ones_own_gives_spikes_like_u(wrong):
    with pytest.raises(ValueError, match=r"surrogate: spikes must be like u, \[2, 4\] of torch.float32"):
        ops.lif(torch.rand(3, 2, 4), surrogate=wrong)


def test_surrogate_of_bad_width_is_refused():
    with pytest.raises(TypeError, match="surrogate: alpha must be a number, got str"):
        surrogate.atan("2")
    for alpha in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=re.escape(f"must be positive and finite, got {alpha}")):
            surrogate.atan(alpha)


def test_surrogate_of_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"^surrogate: name must be one of atan, .* got 'relu'$"):
        surrogate.Surrogate("relu", 1.0)


def test_a_surrogate_that_was_not_called_is_refused():
    with pytest.raises(TypeError, match=r"^surrogate: expected atan\(\.\.\.\), got the function atan"):
        surrogate.resolve(surrogate.atan)
