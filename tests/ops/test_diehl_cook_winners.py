"""The network of Diehl and Cook in subtle cases: ties, bounds that learning raises, delayed inhibition."""

import math

import pytest
import torch
from backends import PRESENT, force

from snnfast import ops, plasticity

HALF = -1 / math.log(0.5)  # ms: time constant of a decay by half in a step of 1 ms


def present(backend, spikes, w, **settings):
    """Return the result on the CPU; membranes halve in a step, a current of 1 makes a spike, one below 2 no second."""
    defaults = {
        "tau": HALF,
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "refractory": 0.0,
        "theta_plus": 0.0,
        "inhibition": 0.0,
    }
    with force(backend) as on:
        theta = torch.zeros(len(w), dtype=w.dtype, device=on.device)
        result = ops.diehl_cook_(
            spikes.to(on.device),
            w.to(on.device),
            theta,
            return_spikes=True,
            return_state=True,
            **{**defaults, **settings},
        )
    return result.spikes.cpu(), [s.cpu() for s in result.state if s is not None]


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize(
    ("before", "candidates"),
    [
        ([], (2, 5)),
        ([2], (2, 5)),
        ([5], (2, 5)),
        ([5, 2], (2, 5)),
        ([70], (3, 70)),
        ([3], (3, 70)),
        ([], (3, 70)),
        ([70, 3], (3, 70)),
        ([1030], (5, 1030)),
        ([], (5, 1030)),
    ],
    ids=str,
)
@pytest.mark.parametrize("delay", [0, 1])
def test_of_equal_candidates_the_first_wins(backend, before, candidates, delay):
    """This holds whichever neuron spiked before and was taken out of its group by the CPU kernel."""
    neurons = 1100 if max(candidates) > 1000 else 80
    inputs = len(before) + 1
    w = torch.zeros(neurons, inputs, dtype=torch.float64)
    spikes = torch.zeros(1, 2 * inputs + 1, inputs, dtype=torch.bool)
    for k, n in enumerate(before):
        w[n, k] = 1.5
        spikes[0, 2 * k, k] = True
    w[list(candidates), -1] = 1.5
    spikes[0, 2 * inputs - 2, -1] = True
    raster, _ = present(backend, spikes, w, one_winner=True, inhibition_delay=delay)
    expected = [[2 * k + 1, n] for k, n in enumerate([*before, min(candidates)])]
    assert raster[0].nonzero().tolist() == expected


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
def test_the_candidate_furthest_above_its_threshold_wins(backend):
    w = torch.tensor([[1.25], [1.75], [1.5]], dtype=torch.float64)
    spikes = torch.ones(1, 2, 1, dtype=torch.bool)
    raster, _ = present(backend, spikes, w, one_winner=True)
    assert raster[0].nonzero().tolist() == [[1, 1]]


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("neurons", [2, 66])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_weight_that_has_grown_counts_in_the_next_presentation(backend, neurons, dtype):
    """With the weights at the beginning of the call, only the first presentation would have a spike."""
    w = torch.full((neurons, 3), 0.125, dtype=dtype)
    w[-1, 0] = 2.0
    spikes = torch.zeros(5, 20, 3, dtype=torch.bool)
    spikes[0, 2, :2] = True  # input 0 makes the last neuron spike, which strengthens input 1
    spikes[1:, 4, 1] = True
    spikes[1:, 11, 2] = True  # not strengthened
    rule = plasticity.pair(0.0, 4.0, tau_pre=HALF, w_max=9.0)
    raster, _ = present(backend, spikes, w, rule=rule)
    assert raster.nonzero().tolist() == [[0, 3, neurons - 1], *([p, 5, neurons - 1] for p in range(1, 5))]


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("delay", [1, 2, 3])
@pytest.mark.parametrize("others", [1, 70])
def test_delayed_inhibition_spares_the_neuron_itself(backend, delay, others):
    """Without a refractory period nothing else would spare it."""
    w = torch.zeros(1 + others, 1, dtype=torch.float64)
    w[0] = 2.0
    spikes = torch.zeros(1, 2 + delay, 1, dtype=torch.bool)
    spikes[0, 0] = True
    raster, state = present(backend, spikes, w, inhibition=0.5, inhibition_delay=delay)
    assert raster[0].nonzero().tolist() == [[1, 0]]
    assert state[0].tolist() == [0.0] + [-0.5] * others


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("delay", [1, 2])
def test_two_that_spike_together_inhibit_each_other_once(backend, delay):
    w = torch.tensor([[2.0], [2.0], [0.0]], dtype=torch.float64)
    spikes = torch.zeros(1, 2 + delay, 1, dtype=torch.bool)
    spikes[0, 0] = True
    raster, state = present(backend, spikes, w, inhibition=0.5, inhibition_delay=delay)
    assert raster[0].nonzero().tolist() == [[1, 0], [1, 1]]
    assert state[0].tolist() == [-0.5, -0.5, -1.0]
