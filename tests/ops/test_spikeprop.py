"""First spike times: by hand, by brute force, in float32."""

import functools
import math

import pytest
import torch
from samples import assert_all
from spikeprop_cases import CASES, F64, SILENT, case, on, potential
from spikeprop_cases import arguments as arguments  # a fixture

from snnfast import ops, reference


@functools.cache
def brute_force(name, points=1801, threshold=1.0):
    """First crossings by a fine grid and bisection, and the largest potential on the grid."""
    a = case(**CASES[name])
    batch, outputs = a["t_in"].shape[0], a["w"].shape[0]
    grid = torch.linspace(0, a["t_max"], points, dtype=F64)
    shape = (batch, outputs)
    above = torch.full(shape, -1)
    largest = torch.zeros(shape, dtype=F64)
    for k, t in enumerate(grid):
        u = potential(a, t.expand(shape))
        above = torch.where((above < 0) & (u >= threshold), k, above)
        largest = torch.maximum(largest, u)
    fired = above > 0
    high = grid[above.clamp(min=1)]
    low = grid[above.clamp(min=1) - 1]
    for _ in range(60):
        middle = (low + high) / 2
        up = potential(a, middle) >= threshold
        low, high = torch.where(up, low, middle), torch.where(up, middle, high)
    return torch.where(fired, high, math.inf), largest


# ---- by hand


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_one_input_crosses_where_lambert_w_says(backend, dtype):
    """w (s/tau) exp(1 - s/tau) = 1: with tau = 2 and w = 2 exp(-1/2), s = tau/2 exactly."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5), dtype=dtype, device=backend.device)
    t_in = torch.tensor([[3.0], [0.0], [math.inf]], dtype=dtype, device=backend.device)
    delays = torch.tensor([0.5], dtype=dtype, device=backend.device)
    t, slope = ops.spikeprop(t_in, w, delays, tau=2.0, t_max=10.0, return_slope=True)
    tight = 1e-13 if dtype == F64 else 1e-5
    assert t[:2, 0].tolist() == pytest.approx([4.5, 1.5], abs=tight)
    assert t[2].item() == math.inf
    # u' = w (1 - s/tau) exp(1 - s/tau) / tau = 1/2
    assert slope[:2, 0].tolist() == pytest.approx([0.5, 0.5], abs=tight)
    assert slope[2].item() == math.inf


def test_largest_potential_of_one_input_by_hand(backend):
    """The maximum is w, a time tau after the event; if the window ends before, the potential at its end."""
    w = torch.tensor([[[0.75]], [[-1.0]]], dtype=F64, device=backend.device)
    t_in = torch.tensor([[1.0], [math.inf]], dtype=F64, device=backend.device)
    delays = torch.zeros(1, dtype=F64, device=backend.device)
    t, u = ops.spikeprop(t_in, w, delays, tau=2.0, t_max=9.0, return_u_max=True)
    assert_all(t, math.inf)
    assert u.tolist() == [[pytest.approx(0.75, abs=1e-15), 0.0], [0.0, 0.0]]
    _, u = ops.spikeprop(t_in, w, delays, tau=2.0, t_max=2.0, return_u_max=True)
    assert u[0].tolist() == [pytest.approx(0.375 * math.exp(0.5), abs=1e-15), 0.0]


def test_potential_of_a_spiking_neuron_is_the_threshold(backend):
    a = on(backend.device, case(**CASES["real"]))
    t, u = ops.spikeprop(**a, v_threshold=0.7, return_u_max=True)
    assert 0 < t.isfinite().float().mean() < 1
    assert_all(u[t.isfinite()], 0.7)
    assert ((u[t.isinf()] < 0.7) & (u[t.isinf()] >= 0)).all()


def test_a_touch_between_two_events_counts(backend):
    """The potential of weight 1.0625 is above 1 only around one tau after the event, long before the next."""
    t_in = torch.tensor([[0.0, 9.0]], dtype=F64, device=backend.device)
    w = torch.tensor([[[1.0625], [0.0]], [[0.9375], [0.0]]], dtype=F64, device=backend.device)
    t = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=1.0, t_max=20.0)
    s = t[0, 0].item()
    assert 0.5 < s < 1
    assert 1.0625 * s * math.exp(1 - s) == pytest.approx(1.0, abs=1e-14)
    assert t[0, 1].item() == math.inf


def test_inhibition_at_the_same_time_cancels(backend):
    t_in = torch.tensor([[2.0, 2.0, 4.0]], dtype=F64, device=backend.device)
    w = torch.tensor([[[5.0], [-5.0], [math.e]]], dtype=F64, device=backend.device)
    t = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=1.0, t_max=20.0)
    only = ops.spikeprop(t_in[:, 2:], w[:, 2:], t_in.new_zeros(1), tau=1.0, t_max=20.0)
    assert t.item() == pytest.approx(only.item(), abs=1e-14)
    assert t.item() > 4


def test_a_crossing_counts_up_to_t_max(backend):
    """The crossing of the first test lies at 4.5."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5), dtype=F64, device=backend.device)
    t_in = torch.tensor([[3.0]], dtype=F64, device=backend.device)
    delays = t_in.new_full((1,), 0.5)
    assert ops.spikeprop(t_in, w, delays, tau=2.0, t_max=4.51).item() == pytest.approx(4.5)
    assert ops.spikeprop(t_in, w, delays, tau=2.0, t_max=4.49).item() == math.inf


# ---- by brute force


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("name", CASES)
def test_brute_force_finds_the_same_times(backend, name):
    expected, largest = brute_force(name)
    t, u = ops.spikeprop(**on(backend.device, case(**CASES[name])), return_u_max=True)
    t, u = t.cpu(), u.cpu()
    torch.testing.assert_close(t.isfinite(), expected.isfinite(), rtol=0, atol=0)
    fired = expected.isfinite()
    torch.testing.assert_close(t[fired], expected[fired], rtol=0, atol=1e-11)
    assert (u[~fired] >= largest[~fired] - 1e-12).all()
    torch.testing.assert_close(u[~fired], largest[~fired], rtol=0, atol=1e-3)


def test_cases_have_spikes_and_silence():
    share = torch.cat([brute_force(name)[0].isfinite().flatten() for name in CASES])
    assert 0.2 < share.double().mean() < 0.8


# ---- float32


@pytest.mark.filterwarnings(SILENT)
def test_float32_agrees_with_float64(backend, arguments):
    wide = ops.spikeprop(**on(backend.device, arguments))
    narrow = ops.spikeprop(
        **{k: v.to(backend.device, torch.float32) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    )
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.isfinite(), wide.isfinite(), rtol=0, atol=0)
    fired = wide.isfinite()
    torch.testing.assert_close(narrow[fired].double(), wide[fired], rtol=0, atol=2e-4)


def test_float32_stays_accurate_over_a_window_of_hundreds_of_tau(backend):
    """The same volley comes at 0 and at 900 tau: a sum with one origin would overflow or lose all digits."""
    g = torch.Generator().manual_seed(3)
    volley = torch.rand(1, 30, generator=g, dtype=F64) * 3
    w = torch.rand(12, 30, 1, generator=g, dtype=F64) / 8
    a = {"w": w, "delays": torch.zeros(1, dtype=F64), "tau": 1.0}
    expected = reference.spikeprop(volley, **a, t_max=10.0)
    assert expected.isfinite().all()
    weak = torch.cat((volley, volley + 900), 1)
    joined = torch.cat((w * 0.01, w), 1)
    t = ops.spikeprop(
        weak.float().to(backend.device),
        joined.float().to(backend.device),
        torch.zeros(1, device=backend.device),
        tau=1.0,
        t_max=1000.0,
    )
    torch.testing.assert_close(t.cpu().double(), expected + 900, rtol=0, atol=4e-4)
