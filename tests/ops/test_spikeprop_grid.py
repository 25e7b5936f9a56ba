"""First spike times on a grid of time steps (``dt``): by hand, and the first points above the threshold."""

import functools
import math

import pytest
import torch
from spikeprop_cases import CASES, F64, SILENT, case, on, potential
from spikeprop_cases import arguments as arguments  # a fixture

from snnfast import ops


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_times_of_the_grid_by_hand(backend, dtype):
    """u = 2 exp(-1/2) s/2 exp(1 - s/2) from t = 3.5 on crosses 1 at 4.5, so on the grid at 4.5, 5, 4.6."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5) * 1.0001, dtype=dtype, device=backend.device)
    t_in = torch.tensor([[3.0]], dtype=dtype, device=backend.device)
    delays = t_in.new_full((1,), 0.5)
    for dt, expected in ((0.5, 4.5), (1.0, 5.0), (0.2, 4.6), (3.0, 6.0)):
        t = ops.spikeprop(t_in, w, delays, tau=2.0, t_max=10.0, dt=dt)
        assert t.item() == pytest.approx(expected, abs=1e-6)
    assert ops.spikeprop(t_in, w, delays, tau=2.0, t_max=20.0, dt=9.0).item() == math.inf


def test_grid_does_not_see_what_happens_between_its_points(backend):
    """The potential rises at 1.0 and falls at 1.5 by inhibition; at 2 it is far below the threshold."""
    t_in = torch.tensor([[1.0, 1.5]], dtype=F64, device=backend.device)
    w = torch.tensor([[[9.0], [-40.0]]], dtype=F64, device=backend.device)
    exact = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=2.0, t_max=6.0)
    assert 1 < exact.item() < 1.5
    t, u = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=2.0, t_max=6.0, dt=1.0, return_u_max=True)
    assert t.item() == math.inf
    assert u.item() == 0.0
    # on the grid of 0.5 the potential is above the threshold at 1.5, where the inhibition only starts
    assert ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=2.0, t_max=6.0, dt=0.5).item() == 1.5


@pytest.mark.parametrize("weight", [-2.0, 3.0])
def test_an_event_at_the_time_of_the_spike_has_no_influence_on_the_grid_either(backend, weight):
    """u(4) = eps(4) = 4/7 exp(3/7) is the first above 0.8, and u' = 3/49 exp(3/7), whatever arrives at 4."""
    t_in = torch.tensor([[0.0, 4.0]], dtype=F64, device=backend.device, requires_grad=True)
    w = torch.tensor([[[1.0], [weight]]], dtype=F64, device=backend.device, requires_grad=True)
    more = {"tau": 7.0, "v_threshold": 0.8, "t_max": 30.0, "dt": 1.0}
    t, slope = ops.spikeprop(t_in, w, t_in.new_zeros(1), return_slope=True, **more)
    t.sum().backward()
    assert (t.item(), slope.item()) == (4, pytest.approx(3 / 49 * math.exp(3 / 7)))
    assert t_in.grad.tolist() == [[pytest.approx(1), 0]]
    assert w.grad.flatten().tolist() == [pytest.approx(-28 / 3), 0]


@functools.cache
def first_points(name, dt):
    """Return the first points of the grid above the threshold, and the largest potentials there."""
    a = case(**CASES[name])
    points = torch.arange(1 + int(18.0 / dt * (1 + 1e-9)), dtype=F64) * dt
    u = torch.stack([potential(a, t.expand(len(a["t_in"]), len(a["w"]))) for t in points])
    assert ((u - 1).abs() > 1e-12).all()
    times = torch.where((u >= 1).any(0), points[(u >= 1).byte().argmax(0)], math.inf)
    return times, u.amax(0)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dt", [0.1, 0.25, 1.0, 7.0])
@pytest.mark.parametrize("name", CASES)
def test_grid_times_are_the_first_points_above(backend, name, dt):
    expected, largest = first_points(name, dt)
    t, u_max = ops.spikeprop(**on(backend.device, case(**CASES[name])), dt=dt, return_u_max=True)
    torch.testing.assert_close(t.cpu(), expected, rtol=0, atol=0)
    largest = torch.where(expected.isfinite(), 1.0, largest.clamp(min=0))
    torch.testing.assert_close(u_max.cpu(), largest, rtol=0, atol=1e-13)
