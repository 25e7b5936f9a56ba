"""The network of Diehl and Cook with conductances: worked by hand."""

import math

import pytest
import torch
from backends import CPU, force
from diehl_cook_conductance_cases import CONDUCTANCE, dense, sample

from snnfast import plasticity


@pytest.mark.parametrize("name", ["reference", *CPU])
def test_one_neuron_by_hand(name):
    """One input spike of weight 1, conductances that halve in a step, a quarter of the time constant."""
    half = 1 / math.log(2)  # ms: time constant of a decay by half in a step of 1 ms
    mean = 0.5 * half
    with force(name) as on:
        w = torch.tensor([[1.0]], dtype=torch.float64, device=on.device)
        theta = torch.tensor([0.0], dtype=torch.float64, device=on.device)
        spikes = torch.tensor([[[1], [0], [0], [0], [0]]], dtype=torch.bool, device=on.device)
        result = CONDUCTANCE(
            spikes,
            w,
            theta,
            dt=1.0,
            rest=0.0,
            tau=4.0,
            v_rest=-64.0,
            v_reset=-60.0,
            v_threshold=-53.0,
            refractory=2.0,
            tau_g_exc=half,
            theta_plus=0.5,
            tau_theta=None,
            return_spikes=True,
            return_state=True,
        )
    # The spike of step 0 acts from step 1 on, with conductance 1, then 1/2.
    v = [-64.0]
    for g in (1.0, 0.5):
        total = 1 + mean * g
        v.append(-64 / total + (v[-1] + 64 / total) * math.exp(-total / 4))
    assert v[1] < -53 < v[2]
    assert result.spikes[0, :, 0].tolist() == [False, False, True, False, False]
    assert theta.tolist() == [0.5]
    # Refractory in steps 3 and 4; five steps after the input its conductance has halved four times.
    assert result.state.v.tolist() == [-60.0]
    assert result.state.refractory.tolist() == [0]
    torch.testing.assert_close(result.state.g_exc.cpu(), torch.tensor([1 / 16]).double())


@pytest.mark.parametrize("name", ["reference", *CPU])
def test_inhibition_by_hand(name):
    """With the authors' constants the partner fires two steps after its neuron, and inhibits the others only."""
    with force(name) as on:
        w = torch.tensor([[8.0, 0.0], [0.0, 0.0]], dtype=torch.float64, device=on.device)
        theta = torch.full((2,), 20.0, dtype=torch.float64, device=on.device)
        state, seen = None, []
        for t in range(30):
            spikes = torch.tensor([[[t < 4, False]]], device=on.device)
            result = CONDUCTANCE(spikes, w, theta, rest=0.0, state=state, return_state=True, return_spikes=True)
            state = result.state
            seen.append(
                {
                    "spikes": result.spikes[0, 0].tolist(),
                    "g_exc_inh": state.g_exc_inh.tolist(),
                    "refractory_inh": state.refractory_inh.tolist(),
                    "g_inh": state.g_inh.tolist(),
                    "v": state.v.tolist(),
                }
            )
    first = next(t for t, step in enumerate(seen) if step["spikes"][0])
    assert seen[first]["g_exc_inh"] == [10.4, 0.0]
    # v_inh: -60, then -6.5 - 53.5 exp(-0.459) = -40.3 < -40, so it fires in the step after.
    m = 2 * (1 - math.exp(-0.5))
    target = -60 / (1 + m * 10.4)
    v_inh = target + (-60 - target) * math.exp(-0.05 * (1 + m * 10.4))
    assert -41 < v_inh < -40
    assert [seen[first + k]["refractory_inh"] for k in (0, 1, 2)] == [[0, 0], [0, 0], [4, 0]]
    assert [seen[first + k]["g_inh"] for k in (1, 2)] == [[0.0, 0.0], [0.0, 17.0]]
    # Arrivals act from the next step on.
    assert seen[first + 2]["v"][1] == -65.0
    m = 4 * (1 - math.exp(-0.25))
    target = (-65 - 1700 * m) / (1 + 17 * m)
    inhibited = target + (-65 - target) * math.exp(-0.005 * (1 + 17 * m))
    assert seen[first + 3]["v"][1] == pytest.approx(inhibited, abs=1e-12)
    assert not any(step["spikes"][1] for step in seen)


@pytest.mark.parametrize("name", ["reference", *CPU])
def test_delays_by_hand(name):
    """A spike arrives after its delay, acts with the weight before learning, and then changes it."""
    rule = plasticity.pair(lr_pre=0.125, lr_post=0.0)
    with force(name) as on:
        w = torch.full((2, 2), 0.5, dtype=torch.float64, device=on.device)
        theta = torch.full((2,), 20.0, dtype=torch.float64, device=on.device)
        delays = torch.tensor([[0, 3], [1, 2]], dtype=torch.uint8, device=on.device)
        settings = {"delays": delays, "rest": 0.0, "rule": rule, "return_state": True}
        silence = torch.zeros(1, 0, 2, dtype=torch.bool, device=on.device)
        state = CONDUCTANCE(silence, w, theta, **settings).state
        # Traces of neurons that have just spiked: each arriving input lowers the weight by 1/8 of them.
        state = state._replace(trace_post=torch.ones(2, dtype=torch.float64, device=on.device))
        arrived = []
        for t in range(5):
            x = torch.tensor([[[t == 0, t == 0]]], device=on.device)
            before, g = w.clone(), state.g_exc.clone()
            state = CONDUCTANCE(x, w, theta, state=state, **settings).state
            change = state.g_exc - g * math.exp(-0.5)
            arrived.append(change.round(decimals=9).tolist())
            trace = math.exp(-(t + 1) / 40)
            due = delays == t
            expected = torch.where(due, before - 0.125 * trace, before)
            torch.testing.assert_close(w, expected, rtol=0, atol=1e-15)
    assert arrived == [[0.5, 0.0], [0.0, 0.5], [0.0, 0.5], [0.5, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("name", ["reference", *CPU])
def test_a_spike_carries_the_same_charge_in_steps_of_any_length(name):
    peaks = []
    with force(name) as on:
        for dt in (1.0, 0.5, 0.125):
            w = torch.full((1, 1), 0.5, dtype=torch.float64, device=on.device)
            theta = torch.full((1,), 20.0, dtype=torch.float64, device=on.device)
            x = torch.zeros(1, round(20 / dt) + 1, 1, dtype=torch.bool, device=on.device)
            x[:, 0] = True
            state = CONDUCTANCE(x, w, theta, dt=dt, rest=0.0, return_state=True).state
            peaks.append(state.v.item())
    # 65 mV from reversal, 0.5 of the leak for 1 ms, decays by exp(-20 / 100).
    assert peaks[2] == pytest.approx(-65 + 65 * 0.5 / 100 * math.exp(-0.2), abs=0.01)
    assert max(peaks) - min(peaks) < 0.01


@pytest.mark.parametrize("name", ["reference", *CPU])
def test_no_inhibition_carries_the_membrane_beyond_its_reversal_potential(name):
    w, theta, x = sample((20, 24), count=1, steps=60)
    spikes, state, lowest = dense(x, 24), None, []
    with force(name) as on:
        spikes, w, theta = spikes.to(on.device), w.to(on.device), theta.to(on.device)
        for step in spikes.split(1, dim=1):
            state = CONDUCTANCE(step, w, theta, state=state, tau=20.0, w_inh_exc=1e4, rest=0.0, return_state=True).state
            lowest.append(state.v.min().item())
    assert -100 <= min(lowest) < -99.9
