"""A network trained by BP-STDP on CUDA, with its memory in shared or in global memory: always the same bits."""

import pytest
import torch
from backends import PRESENT, force
from bp_stdp_network_cases import rates, sample
from samples import assert_equal

from snnfast import ops, reference

SMALL, WIDE = (12, 3, (20, 17, 33, 4)), (6, 20, (50, 150, 10))
# Shape, samples a batch, update, and bytes of shared memory of the emulated device.
WAYS = {
    "shared memory": (SMALL, 1, "step", 232448),
    "shared memory, changes at the end": (SMALL, 3, "sequence", 232448),
    "more neurons than threads": (WIDE, 20, "step", 232448),
    "global memory": (SMALL, 3, "step", 0),
    "global memory, changes at the end": (SMALL, 3, "sequence", 2000),
    "global memory, more neurons than threads": (WIDE, 20, "step", 0),
}

pytestmark = pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")


@pytest.fixture(autouse=True, params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setenv("SNNFAST_EMULATION_SHARED", str(WAYS[request.param][-1]))
    return request.param


@pytest.mark.parametrize(("dtype", "schedule"), [(torch.float32, "rand:1"), (torch.float64, "fwd")])
def test_cuda_emulation_does_what_the_reference_does(way, dtype, schedule, monkeypatch):
    monkeypatch.setenv("SNNFAST_EMULATION_SCHEDULE", schedule)
    shape, batch, update, _ = WAYS[way]
    weights, x, labels, desired = sample(shape, dtype)
    drawn = rates(shape[1], shape[2][0], num_steps=shape[0])
    for stimuli in (x, drawn) if dtype == torch.float32 else (x,):
        how = {"thresholds": [0.9] * len(weights), "lr": 0.05, "update": update, "batch": batch}
        how |= {"return_hidden": True, "return_state": True}
        expected, learned = ([w.clone() for w in weights] for _ in range(2))
        wanted = reference.bp_stdp_network_(expected, stimuli, labels, desired, **how)
        with force("cuda_emulation"):
            result = ops.bp_stdp_network_(learned, stimuli, labels, desired, **how)
        assert_equal(learned, expected)
        assert not torch.equal(learned[-1], weights[-1])
        assert_equal(result.spikes, wanted.spikes)
        assert_equal([*result.hidden, *result.state], [*wanted.hidden, *wanted.state])


def test_cuda_emulation_answers_and_goes_on(way):
    """Evaluation from membranes that are not 0, with enough samples for copies of the weights."""
    shape, batch, *_ = WAYS[way]
    weights, x, *_ = sample(shape, torch.float32)
    how = {"thresholds": [0.9] * len(weights), "batch": batch, "return_state": True}
    state = [torch.full((shape[1], len(w)), 0.25) for w in weights]
    wanted = reference.bp_stdp_network_(weights, x, state=state, **how)
    with force("cuda_emulation"):
        result = ops.bp_stdp_network_(weights, x, state=state, **how)
    assert_equal([result.spikes, *result.state], [wanted.spikes, *wanted.state])


def test_cuda_emulation_of_two_networks_at_once(way):
    shape, batch, update, _ = WAYS[way]
    weights, x, labels, desired = sample(shape, torch.float32)
    how = {"thresholds": [0.9] * len(weights), "update": update, "batch": batch}
    many = [torch.stack([w, -w.flip(0)]) for w in weights]
    alone = [[w[k].clone() for w in many] for k in range(2)]
    with force("cuda_emulation"):
        ops.bp_stdp_network_(many, x, labels, desired, lr=[0.05, 0.1], **how)
        for network, lr in zip(alone, (0.05, 0.1), strict=True):
            ops.bp_stdp_network_(network, x, labels, desired, lr=lr, **how)
    for k, network in enumerate(alone):
        assert_equal([w[k] for w in many], network)
