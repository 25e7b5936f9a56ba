"""Gradients of ``eventprop``: by hand, by finite differences, and between backends."""

import math

import pytest
import torch
from backends import PRESENT
from eventprop_cases import CASES, F64, SILENT, case, expected, graded, leaves, loss

from snnfast import ops

BY_HAND = {"tau_mem": 2.0, "tau_syn": 1.0, "t_max": 12.0, "max_spikes": 4}


def test_two_spikes_by_hand(backend):
    """The spikes of test_eventprop: dv(t1) = (z - z^2) dw at z = 16/19, and the slope is 13/6.

    At the second spike dv = (16/19)^2 (z - z^2) dw - z/2 16/3 dt1 at z = 3/4: by the weight, and by the reset, from
    which on the current charges; there the slope is 1.
    """
    w = torch.tensor([[361 / 48]], dtype=F64, device=backend.device, requires_grad=True)
    t_in = torch.tensor([[[3.0]]], dtype=F64, device=backend.device, requires_grad=True)
    t = ops.eventprop(t_in, w, **BY_HAND)
    first = [g.item() for g in torch.autograd.grad(t[0, 0, 0], (w, t_in), retain_graph=True)]
    second = [g.item() for g in torch.autograd.grad(t[0, 0, 1], (w, t_in))]
    assert first == pytest.approx([-288 / 4693, 1.0], abs=1e-13)
    assert second == pytest.approx([-1200 / 4693, 1.0], abs=1e-13)


def test_two_neurons_by_hand(backend):
    """A feeds B as in test_eventprop, with the loss t_B: Wunderlich and Pehle's case of two neurons and one synapse.

    Their adjoints: at t_B, lambda_V = 1 / (tau_mem v'), and from there back in time
    lambda_I(t_A) = lambda_V (z - z^2) tau_mem / tau_syn; the gradient of the weight is -tau_syn lambda_I(t_A), at A's
    spike. lambda_V(t_A) is as large, since t_B moves with t_A. With slopes of 13/6 both weights have the gradient
    -(48/361) 6/13.
    """
    z = 16 / 19
    lambda_v = 1 / (2.0 * 13 / 6)
    by_weight = -1.0 * (lambda_v * (z - z * z) * 2.0 / 1.0)
    assert by_weight == pytest.approx(-288 / 4693, abs=1e-15)
    w = torch.tensor([[361 / 48], [0.0]], dtype=F64, device=backend.device, requires_grad=True)
    w_rec = torch.tensor([[0.0, 0.0], [361 / 48, 0.0]], dtype=F64, device=backend.device)
    w_rec.requires_grad_()
    wait = torch.full((2, 2), 0.125, dtype=F64, device=backend.device, requires_grad=True)
    t_in = torch.tensor([[3.0]], dtype=F64, device=backend.device, requires_grad=True)
    for delays in (None, wait):
        t = ops.eventprop(t_in, w, w_rec, delays_rec=delays, **BY_HAND | {"max_spikes": 12})
        wanted = [w, w_rec, t_in] + [delays] * (delays is not None)
        found = torch.autograd.grad(t[0, 1, 0], wanted)
        assert found[0][0].item() == pytest.approx(by_weight, abs=1e-13)
        assert found[1].flatten().tolist() == pytest.approx([0.0, 0.0, by_weight, 0.0], abs=1e-13)
        assert found[2].item() == pytest.approx(1.0, abs=1e-13)
        if delays is not None:
            assert found[3].flatten().tolist() == pytest.approx([0.0, 0.0, 1.0, 0.0], abs=1e-13)


def test_largest_potential_by_hand(backend):
    """The maximum of z - z^2 is 1/4; where inhibition ends the rise at z = 3/4, it moves with that arrival.

    There the slope is (i z^2 - v) / 2 = 2 (9/16 - 3/16) / 2.
    """
    w = torch.tensor([[2.0, -9.0]], dtype=F64, device=backend.device, requires_grad=True)
    for second, by_w, by_t in ((math.inf, 1 / 4, 0.0), (1 + 2 * math.log(4 / 3), 3 / 16, 3 / 8)):
        t_in = torch.tensor([[1.0, second]], dtype=F64, device=backend.device, requires_grad=True)
        _, u = ops.eventprop(t_in, w, **BY_HAND, return_u_max=True)
        found = torch.autograd.grad(u.sum(), (w, t_in))
        assert found[0][0].tolist() == pytest.approx([by_w, 0.0], abs=1e-14)
        assert found[1][0].tolist() == pytest.approx([-by_t, by_t], abs=1e-14)


def test_slope_guard_bounds_the_gradient(backend):
    """The slope of the first spike above is 13/6; a bound of 10 / tau_mem divides by 5 instead."""
    w = torch.tensor([[361 / 48]], dtype=F64, device=backend.device, requires_grad=True)
    t = ops.eventprop(w.new_full((1, 1), 3.0), w, slope_min=10.0, **BY_HAND)
    assert torch.autograd.grad(t[0, 0, 0], w)[0].item() == pytest.approx(-48 / 361 / 5, abs=1e-13)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("kernels", [name for name in PRESENT if name == "cpu"], indirect=True)  # others equal it
@pytest.mark.parametrize("name", CASES)
def test_gradients_by_finite_differences(kernels, name):
    """Central differences of fourth order by every number of every argument, with the same spikes on both sides."""
    a = leaves(case(**CASES[name]))
    more = {"slope_min": 1e-6, "return_u_max": True, "validate": False}
    grads = torch.autograd.grad(loss(*ops.eventprop(**a, **more)), graded(a))
    fired = ops.eventprop(**a, validate=False).isfinite()
    checked = 0
    with torch.no_grad():
        for leaf, grad in zip(graded(a), grads):
            flat = leaf.view(-1)
            for i in flat.isfinite().nonzero()[:, 0].tolist()[:40]:
                values, h, before = [], 2e-5, flat[i].item()
                same = True
                for step in (2 * h, h, -h, -2 * h):
                    flat[i] = before + step
                    t, u = ops.eventprop(**a, **more)
                    values.append(loss(t, u).item())
                    same &= torch.equal(t.isfinite(), fired)
                flat[i] = before
                difference = (8 * (values[1] - values[2]) - values[0] + values[3]) / (12 * h)
                found = grad.view(-1)[i].item()
                if not same or abs(found) > 1e4:  # a spike came or went, or nearly
                    continue
                assert found == pytest.approx(difference, rel=1e-6, abs=1e-6), i
                checked += 1
    assert checked > 1


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_kernels_equal_those_of_the_reference(kernels, name):
    a = leaves(case(**CASES[name]), kernels.device)
    found = torch.autograd.grad(loss(*ops.eventprop(**a, return_u_max=True)), graded(a))
    for got, want in zip(found, expected(name)[1], strict=True):
        assert want.any()
        atol = 2e-12 * want.abs().max().item() + 1e-15
        torch.testing.assert_close(got.cpu(), want, rtol=1e-11, atol=atol)


@pytest.mark.filterwarnings(SILENT)
def test_gradients_of_float32(kernels):
    found = []
    for dtype in (torch.float32, F64):
        a = case(**CASES["plain"])
        a = leaves({k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in a.items()}, kernels.device)
        found.append(torch.autograd.grad(loss(*ops.eventprop(**a, return_u_max=True)), graded(a)))
    for got, want in zip(*found):
        torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3 * want.abs().max().item())


def test_only_inputs_and_spikes_are_saved():
    """Memory grows with spikes, not with arrivals at neurons or with time."""
    a = leaves(case(4, 50, 20, 30, max_spikes=5, scale=0.2))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        ops.eventprop(**a, validate=False)
    inputs, spikes = a["t_in"].numel() + a["w"].numel(), 4 * 30 * 5
    assert sum(saved) <= inputs + 2 * spikes
