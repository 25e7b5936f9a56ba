"""All spike times of ``eventprop``: by hand, in small steps, against the reference and ``spikeprop``."""

import math

import pytest
import torch
from eventprop_cases import CASES, F64, SILENT, case, expected, on
from hypothesis import given
from hypothesis import strategies as st
from samples import assert_all

from snnfast import ops, reference

BY_HAND = {"tau_mem": 2.0, "tau_syn": 1.0, "t_max": 12.0, "max_spikes": 4}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_two_spikes_by_hand(backend, dtype):
    """With tau_mem = 2 tau_syn and z = exp(-s / tau_mem), i z^2 is the current and i (z - z^2) the potential.

    A weight of 361/48 crosses 1 at z = 16/19, where the current is 16/3; after the reset at z = 3/4, where it is 3: too
    little for a third spike. The slope is (i - 1) / 2.
    """
    w = torch.tensor([[361 / 48]], dtype=dtype, device=backend.device)
    t_in = torch.tensor([[[3.0]], [[math.inf]]], dtype=dtype, device=backend.device)
    t, u, slope = ops.eventprop(t_in, w, **BY_HAND, return_u_max=True, return_slope=True)
    first = 3 - 2 * math.log(16 / 19)
    tight = 1e-13 if dtype == F64 else 2e-6
    assert t[0, 0].tolist() == pytest.approx([first, first - 2 * math.log(3 / 4)] + [math.inf] * 2, abs=tight)
    assert slope[0, 0].tolist() == pytest.approx([13 / 6, 1.0, math.inf, math.inf], abs=10 * tight)
    assert u[:, 0].tolist() == [1.0, 0.0]
    assert_all(t[1], math.inf)


def test_two_neurons_that_feed_each_other_by_hand(backend):
    """A as above feeds B with the same weight and a delay of 1/4; each fires equally long after its first arrival.

    By then only A's first spike has reached B: the second comes 2 log(4/3) after the first.
    """
    w = torch.tensor([[361 / 48], [0.0]], dtype=F64, device=backend.device)
    w_rec = torch.tensor([[0.0, 0.0], [361 / 48, 0.0]], dtype=F64, device=backend.device)
    t_in = torch.tensor([[[3.0]]], dtype=F64, device=backend.device)
    first = -2 * math.log(16 / 19)
    for delay in (0.0, 0.25):
        wait = None if delay == 0 else torch.full((2,), delay, dtype=F64, device=backend.device)
        t = ops.eventprop(t_in, w, w_rec, delays_rec=wait, **BY_HAND | {"max_spikes": 12})
        assert t[0, 0, 0].item() == pytest.approx(3 + first, abs=1e-13)
        assert t[0, 1, 0].item() == pytest.approx(3 + 2 * first + delay, abs=1e-13)


def test_neurons_that_fire_at_one_time_do_not_stop_each_other(backend):
    """Two equal neurons inhibit each other strongly: both fire, and only then is each inhibited."""
    w = torch.full((2, 1), 361 / 48, dtype=F64, device=backend.device)
    w_rec = -100.0 * torch.ones(2, 2, dtype=F64, device=backend.device).fill_diagonal_(0)
    t = ops.eventprop(w.new_full((1, 1), 3.0), w, w_rec, **BY_HAND)
    assert t[0, :, 0].tolist() == pytest.approx([3 - 2 * math.log(16 / 19)] * 2, abs=1e-13)
    assert_all(t[0, :, 1:], math.inf)


def test_largest_potential_by_hand(backend):
    """i (z - z^2) is largest at z = 1/2, 2 log 2 after the arrival, and a quarter of the weight."""
    w = torch.tensor([[2.0], [-1.0]], dtype=F64, device=backend.device)
    t_in = torch.tensor([[1.0]], dtype=F64, device=backend.device)
    t, u = ops.eventprop(t_in, w, **BY_HAND, return_u_max=True)
    assert_all(t, math.inf)
    assert u.tolist() == [[pytest.approx(0.5, abs=1e-15), 0.0]]
    _, u = ops.eventprop(t_in, w, **(BY_HAND | {"t_max": 1 + math.log(4 / 3) * 2}), return_u_max=True)
    assert u[0, 0].item() == pytest.approx(2 * (3 / 4 - 9 / 16), abs=1e-15)


def test_without_a_threshold_no_neuron_fires(backend):
    w = torch.tensor([[40.0]], dtype=F64, device=backend.device)
    options = BY_HAND | {"v_threshold": None, "max_spikes": 1}
    t, u = ops.eventprop(w.new_full((1, 1), 1.0), w, **options, return_u_max=True)
    assert_all(t, math.inf)
    assert u.item() == pytest.approx(10.0, abs=1e-14)


def in_steps(a, dt):
    """Return the spikes of a feed-forward case by exponential integration, exact within each step of ``dt``."""
    mem, syn = math.exp(-dt / a["tau_mem"]), math.exp(-dt / a["tau_syn"])
    gap = 1 / a["tau_syn"] - 1 / a["tau_mem"]
    response = (mem - syn) / (gap * a["tau_mem"])
    steps = round(a["t_max"] / dt)
    arrives = (a["t_in"] / dt).nan_to_num(posinf=steps + 1).ceil().long().clamp(max=steps + 1)
    counts = torch.zeros(len(a["t_in"]), a["w"].shape[1], steps + 2, dtype=F64)
    counts.scatter_add_(2, arrives, torch.ones_like(a["t_in"]))
    x = torch.einsum("bit,ni->tbn", counts, a["w"])
    v = i = torch.zeros_like(x[0])
    spikes = torch.zeros_like(x[:-2])
    for k in range(steps):
        i = i + x[k]
        v, i = v * mem + i * response, i * syn
        spikes[k] = v >= 1
        v = torch.where(v >= 1, 0.0, v)
    return spikes


@pytest.mark.parametrize("backend", ["reference"], indirect=True)  # the kernels agree with it
@pytest.mark.parametrize("name", ["plain", "slow_synapses"])
def test_small_steps_find_the_same_spikes(backend, name):
    a = case(**CASES[name])
    dt = 0.01
    spikes = in_steps(a, dt)
    t = ops.eventprop(**on(backend.device, a)).cpu()
    # Steps find a spike up to one step late, which also delays the next interval.
    assert (spikes.sum(0) - t.isfinite().sum(2)).abs().max() <= 1
    times = dt * (1 + spikes.byte().argmax(0))
    first = t[..., 0].isfinite() & spikes.any(0)
    assert first.sum() > 5
    torch.testing.assert_close(times[first].double(), t[..., 0][first], rtol=0, atol=5 * dt)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("name", CASES)
def test_kernels_equal_the_reference(kernels, name):
    a = case(**CASES[name])
    options = {"return_u_max": True, "return_slope": True}
    got = ops.eventprop(**on(kernels.device, a), **options)
    want, _ = expected(name)
    fired = want[0].isfinite()
    torch.testing.assert_close(got[0].cpu().isfinite(), fired, rtol=0, atol=0)
    for g, w, tight in zip(got, want, (60e-12, 1e-12, 1e-12)):
        torch.testing.assert_close(g.cpu(), w, rtol=1e-12, atol=tight)


def test_cases_have_spikes_and_silence():
    counts = [ops.eventprop(**case(**CASES[name]), validate=False).isfinite().sum(2) for name in CASES]
    silent = torch.cat([c.flatten() == 0 for c in counts]).double().mean()
    assert 0.2 < silent < 0.8
    assert max(int(c.max()) for c in counts) > 10


@pytest.mark.filterwarnings(SILENT)
@given(
    seed=st.integers(0, 2**31),
    tau_mem=st.floats(0.5, 50),
    ratio=st.sampled_from([0.05, 0.3, 0.999999, 1.0, 1.5, 8.0]),
    scale=st.floats(0.1, 1.5),
    recurrent=st.booleans(),
    delays=st.integers(0, 2),
)
def test_any_call_equals_the_reference(seed, tau_mem, ratio, scale, recurrent, delays):
    """Calls in which a neuron almost misses the threshold are skipped: rounding decides, derivatives are unbounded."""
    a = case(2, 4, 2, 3, (tau_mem, tau_mem * ratio), recurrent, delays, delays * recurrent, scale, seed)
    a |= {"max_spikes": 12, "stops": True, "t_max": 45.0}
    options = {"return_u_max": True, "return_slope": True, "validate": False}
    got, want = ops.eventprop(**a, **options), reference.eventprop(**a, **options)
    near = (want[2] < 1e-3 / tau_mem).any() or ((want[1] - 1).abs().lt(1e-9) & want[0][..., 0].isinf()).any()
    if near:
        return
    torch.testing.assert_close(got[0].isfinite(), want[0].isfinite(), rtol=0, atol=0)
    for g, w, tight in zip(got, want, (6e-9, 1e-9, 1e-9)):  # errors of earlier spikes accumulate
        torch.testing.assert_close(g, w, rtol=1e-9, atol=tight)


@pytest.mark.filterwarnings(SILENT)
def test_the_first_spikes_are_those_of_spikeprop(backend):
    """The time constants are equal and the weights divided by e."""
    a = on(backend.device, case(5, 9, 1, 20, (7.0, 7.0), scale=0.6))
    t = ops.eventprop(**a)[..., 0]
    zero = t.new_zeros(1)
    want = ops.spikeprop(a["t_in"][..., 0], a["w"][:, :, None] / math.e, zero, tau=7.0, t_max=60.0)
    assert 0 < want.isfinite().float().mean() < 1
    torch.testing.assert_close(t, want, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("name", ["plain", "weak", "delays", "recurrent"])
def test_float32_agrees_with_float64(backend, name):
    a = case(**CASES[name])
    wide = ops.eventprop(**on(backend.device, a))
    narrow = ops.eventprop(**on(backend.device, a, torch.float32))
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.isfinite(), wide.isfinite(), rtol=0, atol=0)
    fired = wide.isfinite()
    torch.testing.assert_close(narrow[fired].double(), wide[fired], rtol=0, atol=2e-3)


def test_neurons_may_stop(backend):
    """The first spikes are the same; without recurrence a stopped neuron does not affect the others."""
    a = on(backend.device, case(**CASES["plain"]))
    want = ops.eventprop(**a)
    for most in (1, 3):
        t = ops.eventprop(**a | {"max_spikes": most, "stops": True})
        torch.testing.assert_close(t, want[..., :most], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize(("inputs", "neurons", "batch"), [(0, 3, 2), (3, 0, 2), (3, 3, 0), (3, 65, 1)])
@pytest.mark.parametrize("recurrent", [False, True])
def test_sizes(backend, inputs, neurons, batch, recurrent):
    a = on(backend.device, case(batch, inputs, 2, max(neurons, 1), recurrent=recurrent))
    a |= {k: a[k][:neurons] for k in ("w", "w_rec") if k in a}
    if recurrent:
        a["w_rec"] = a["w_rec"][:, :neurons]
    t, u = ops.eventprop(**a, return_u_max=True)
    assert t.shape == (batch, neurons, 40)
    assert u.shape == (batch, neurons)
    if inputs == 0:
        assert_all(t, math.inf)


def test_results_are_the_same_for_any_number_of_threads():
    a = case(**CASES["weak"])
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            w = a["w"].clone().requires_grad_()
            t = ops.eventprop(**a | {"w": w})
            found.append((t.detach(), torch.autograd.grad(t.nan_to_num(posinf=0.0).sum(), w)[0]))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*found, rtol=0, atol=0)
