"""Gradients of first spike times: by hand, by finite differences, and between backends."""

import functools
import math

import pytest
import torch
from backends import CPU, PRESENT
from samples import assert_all
from spikeprop_cases import CASES, F64, GRADED, SILENT, case, leaves

from snnfast import ops, reference


def test_gradients_of_one_input_by_hand(backend):
    """At the crossing above u' = 1/2 and eps = exp(1/2) / 2: dt/dw = -exp(1/2), dt/dt_in = 1, dt/dtau = s/tau."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5), dtype=F64, device=backend.device).requires_grad_()
    t_in = torch.tensor([[3.0], [math.inf]], dtype=F64, device=backend.device, requires_grad=True)
    delays = torch.tensor([0.5], dtype=F64, device=backend.device, requires_grad=True)
    tau = torch.tensor(2.0, dtype=F64, device=backend.device, requires_grad=True)
    t = ops.spikeprop(t_in, w, delays, tau=tau, t_max=10.0)
    t[0].sum().backward()
    assert w.grad.item() == pytest.approx(-math.exp(0.5), abs=1e-12)
    assert t_in.grad[:, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert delays.grad.item() == pytest.approx(1.0, abs=1e-12)
    assert tau.grad.item() == pytest.approx(0.5, abs=1e-12)


def loss(a, dt=None, weigh_u=0.0, **more):
    """Return a sum of all spike times, squared so that neurons count differently, and of silent potentials."""
    t, u = ops.spikeprop(**a, dt=dt, return_u_max=True, **more)
    fired = t.isfinite()
    value = torch.where(fired, (torch.where(fired, t, 0.0) - 5) ** 2, 0.0).sum()
    return value + weigh_u * (u**2).sum()


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("backend", ["reference"], indirect=True)  # the kernels agree with it
@pytest.mark.parametrize(
    ("name", "weigh_u"),
    [("real", 0.0), *((n, 1.0) for n in ("real", "one_terminal", "long_tau", "weak", "one_lane_more"))],
)
def test_gradients_by_finite_differences(backend, name, weigh_u):
    a = leaves(case(**CASES[name]), backend.device)
    more = {"slope_min": 1e-6}
    value = loss(a, weigh_u=weigh_u, **more)
    grads = dict(zip(GRADED, torch.autograd.grad(value, [a[k] for k in GRADED])))

    def state():
        return ops.spikeprop(**a, validate=False).isfinite()

    h, checked, fired = 1e-6, 0, state()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key in GRADED:
            flat = a[key].view(-1)
            chosen = torch.randperm(flat.numel(), generator=generator)[:6]
            for i in chosen[flat[chosen.to(flat.device)].isfinite().cpu()].tolist():
                values, same = [], True
                for step in (h, -h):
                    flat[i] += step
                    values.append(loss(a, weigh_u=weigh_u, validate=False, **more).item())
                    same &= torch.equal(state(), fired)
                    flat[i] -= step
                if not same:
                    continue  # a spike appeared or vanished: there is no derivative
                found = grads[key].reshape(-1)[i].item()
                difference = (values[0] - values[1]) / (2 * h)
                assert found == pytest.approx(difference, rel=2e-5, abs=2e-6), (key, i)
                checked += 1
    assert checked > 10


@pytest.mark.filterwarnings(SILENT)
def test_peak_at_an_inhibitory_event_moves_with_it(backend):
    """Excitation at 0, strong inhibition at 0.6: the largest potential is u(0.6) = 0.8 * 0.6 exp(0.4)."""
    t_in = torch.tensor([[0.0, 0.6]], dtype=F64, device=backend.device, requires_grad=True)
    w = torch.tensor([[[0.8], [-9.0]]], dtype=F64, device=backend.device, requires_grad=True)
    delays = torch.zeros(2, 1, dtype=F64, device=backend.device, requires_grad=True)
    tau = torch.ones((), dtype=F64, device=backend.device, requires_grad=True)
    _, u = ops.spikeprop(t_in, w, delays, tau=tau, t_max=5.0, return_u_max=True)
    assert u.item() == pytest.approx(0.48 * math.exp(0.4), abs=1e-15)
    u.backward()
    slope = 0.8 * 0.4 * math.exp(0.4)
    assert t_in.grad[0].tolist() == pytest.approx([-slope, slope], abs=1e-14)
    assert delays.grad[:, 0].tolist() == pytest.approx([-slope, slope], abs=1e-14)
    assert w.grad.flatten().tolist() == pytest.approx([0.6 * math.exp(0.4), 0.0], abs=1e-14)
    assert tau.grad.item() == pytest.approx(-0.6 * slope, abs=1e-14)


@pytest.mark.filterwarnings(SILENT)
def test_peak_at_tied_events_moves_with_the_one_that_turns_it(backend):
    """At 0.6 arrive +0.5, -9 and -9: in this order the second turns the slope, and takes the rest of it."""
    t_in = torch.tensor([[0.0, 0.6, 0.6, 0.6]], dtype=F64, device=backend.device)
    t_in.requires_grad_()
    w = torch.tensor([[[0.8], [0.5], [-9.0], [-9.0]]], dtype=F64, device=backend.device)
    delays = torch.zeros(1, dtype=F64, device=backend.device)
    _, u = ops.spikeprop(t_in, w, delays, tau=1.0, t_max=5.0, return_u_max=True)
    u.backward()
    slope = 0.8 * 0.4 * math.exp(0.4)
    start = 0.5 * math.e
    assert t_in.grad[0].tolist() == pytest.approx([-slope, -start, slope + start, 0.0], abs=1e-14)


@pytest.mark.filterwarnings(SILENT)
def test_slope_guard_bounds_the_gradient(backend):
    """Where u' = 1/2 and th / tau = 1/2, a bound of 4 th / tau divides by 2 instead of by 1/2."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5), dtype=F64, device=backend.device).requires_grad_()
    t_in = torch.tensor([[3.0]], dtype=F64, device=backend.device)
    for slope_min, divisor in ((0.05, 0.5), (1.0 + 1e-9, 0.5), (4.0, 2.0)):
        t, slope = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=2.0, t_max=9.0, slope_min=slope_min, return_slope=True)
        (grad,) = torch.autograd.grad(t.sum(), w)
        assert grad.item() == pytest.approx(-0.5 * math.exp(0.5) / divisor, abs=1e-8)
        assert not slope.requires_grad
        assert (slope < slope_min * 0.5 - 1e-6).item() == (slope_min > 2)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dt", [None, 0.25])
def test_silence_gives_zeros_never_nan(backend, dt):
    a = leaves({**case(**CASES["weak"]), "tau": 3.0}, backend.device)
    with torch.no_grad():
        a["t_in"][0] = math.inf
        a["w"] *= 0.2
    t, u = ops.spikeprop(**a, dt=dt, return_u_max=True)
    assert t.isinf().all()
    assert not u[0].any()
    # not even an infinite or undefined gradient passes through a silent output
    for weight in (1.0, math.inf, math.nan):
        grads = torch.autograd.grad(t, list(a[k] for k in GRADED), torch.full_like(t, weight), True)
        assert all((g == 0).all() for g in grads)
    grads = torch.autograd.grad(u.sum(), [a[k] for k in GRADED])
    assert all(g.isfinite().all() for g in grads)
    assert_all(grads[0][0], 0)
    assert any(g.any() for g in grads)


def relative_error(got, want, scale):
    """Return the error relative to the largest value, or to ``scale`` if all are smaller, as in sums that cancel."""
    return ((got - want).abs().max() / want.abs().max().clamp(min=scale)).item()


@functools.cache
def expected(name, dt, dtype):
    """Return arguments and results of the reference, once for all kernels."""
    a = leaves(case(**CASES[name], dtype=dtype))
    return a, reference.spikeprop(**a, dt=dt, return_u_max=True, return_slope=True)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("dt", [None, 0.25])
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_reference(kernels, name, dt, dtype):
    a, want = expected(name, dt, dtype)
    on_device = {
        k: v.detach().to(kernels.device).requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in a.items()
    }
    got = ops.spikeprop(**on_device, dt=dt, return_u_max=True, return_slope=True)
    tight = 1e-12 if dtype == F64 else 1e-4
    for g, w, scale in zip(got, want, (18.0, 1.0, 1.0)):
        assert (g.shape, g.dtype, g.device.type) == (w.shape, w.dtype, kernels.device)
        assert g.is_contiguous()
        torch.testing.assert_close(g.isfinite().cpu(), w.isfinite(), rtol=0, atol=0)
        seen = w.isfinite()
        torch.testing.assert_close(g.cpu()[seen], w[seen], rtol=0, atol=tight * scale)
    weights = torch.rand(want[0].shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    weights = weights.to(dtype)
    for k in range(2):
        inputs = [on_device[name] for name in GRADED]
        grads = torch.autograd.grad(got[k], inputs, weights.to(kernels.device), True)
        wanted = torch.autograd.grad(want[k], [a[name] for name in GRADED], weights, True)
        scale = max(wanted[0].abs().max().item(), 1e-30)
        for g, w in zip(grads, wanted):
            assert (g.shape, g.dtype) == (w.shape, w.dtype)
            # steep functions of the times: their rounding is amplified by 1 / slope
            assert relative_error(g.cpu(), w, scale) < (1e-12 if dtype == F64 else 1e-3)


@pytest.mark.filterwarnings(SILENT)
def test_only_what_is_asked_for_gets_a_gradient(backend):
    full = leaves(case(**CASES["real"]), backend.device)
    all_grads = torch.autograd.grad(loss(full, weigh_u=1.0), [full[k] for k in GRADED])
    for k, want in zip(GRADED, all_grads):
        a = {n: v.detach() if isinstance(v, torch.Tensor) else v for n, v in full.items()}
        a[k].requires_grad_()
        (grad,) = torch.autograd.grad(loss(a, weigh_u=1.0), a[k])
        torch.testing.assert_close(grad, want, rtol=1e-13, atol=1e-13)
    plain = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in full.items()}
    assert not ops.spikeprop(**plain).requires_grad
    with torch.no_grad():
        assert not ops.spikeprop(**full).requires_grad


@pytest.mark.parametrize("backend", [*PRESENT, "reference"][:1], indirect=True)  # the others agree with it
def test_trains_through_two_layers(backend):
    """Plain gradient descent moves output spikes to their targets through a hidden layer with learnable delays."""
    g = torch.Generator().manual_seed(0)
    t_in = (torch.rand(4, 3, generator=g) * 6).to(backend.device)
    w1 = (torch.rand(5, 3, 4, generator=g) * 0.4).to(backend.device).requires_grad_()
    w2 = (torch.rand(2, 5, 4, generator=g) * 0.4).to(backend.device).requires_grad_()
    delays = torch.arange(2.0, 9.0, 2.0, device=backend.device).requires_grad_()
    target = torch.tensor([[11.0, 13.0]], device=backend.device)
    optimizer = torch.optim.Adam([w1, w2, delays], lr=0.02)
    errors = []
    for _ in range(60):
        hidden = ops.spikeprop(t_in, w1, delays, tau=4.0, t_max=20.0)
        out = ops.spikeprop(hidden, w2, delays, tau=4.0, t_max=30.0)
        error = ((out - target) ** 2).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[0] > 1
    assert errors[-1] < 0.05


def test_gradients_of_expanded_arguments(backend):
    a = leaves(case(**CASES["real"]), backend.device)
    base = a["w"].detach()[:1].clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss({**a, "w": base.expand(4, -1, -1)}), base)
    copied = base.detach().expand(4, -1, -1).contiguous().requires_grad_()
    (want,) = torch.autograd.grad(loss({**a, "w": copied}), copied)
    torch.testing.assert_close(grad, want.sum(0, keepdim=True), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize(
    ("kernels", "batch", "outputs"),
    [*((name, 17, 3) for name in PRESENT), *(("cpu", *size) for size in ((16, 3), (33, 40), (130, 3)) if CPU)],
    indirect=["kernels"],
)
def test_gradient_of_weights_over_pieces_of_the_batch(kernels, batch, outputs):
    """With 17 samples and more the CPU sums the gradient of the weights in pieces of the batch."""
    a = leaves(case(batch, 7, 3, outputs), kernels.device)
    (whole,) = torch.autograd.grad(loss(a, weigh_u=1.0), a["w"])
    summed = torch.zeros_like(whole)
    for t in a["t_in"].detach().split(6):  # each of them in one piece
        summed += torch.autograd.grad(loss({**a, "t_in": t}, weigh_u=1.0), a["w"])[0]
    assert summed.any(dim=2).all()
    torch.testing.assert_close(whole, summed, rtol=1e-11, atol=1e-11)
