"""Replaced neurons of snnTorch, Norse and Sinabs, against traces recorded from them, without these libraries."""

from collections import namedtuple

import pytest
import torch
from recorded import inputs_of, recorded
from replaced import leaky, norse, stand_in

from snnfast import nn as sn


def sinabs(settings):
    class MembraneSubtract:
        subtract_value = None

        def __call__(self, spikes, state, threshold):
            return {**state, "v_mem": state["v_mem"] - spikes * threshold}

    class MembraneReset:
        reset_value = 0.0

        def __call__(self, spikes, state, threshold):
            return {**state, "v_mem": state["v_mem"] * (spikes == 0)}

    class SingleExponential:
        def __call__(self, v, threshold):
            return torch.exp(-(v - threshold).abs() / (0.5 * threshold)) / (0.5 * threshold)

    class SingleSpike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v, threshold, slope):
            ctx.slope = slope(v, threshold)
            return (v >= threshold).to(v)

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.slope, None, None

    resets = {"MembraneSubtract": MembraneSubtract, "MembraneReset": MembraneReset}
    return stand_in(
        "sinabs.layers.lif",
        "LIF",
        parameters={"tau_mem": settings["tau_mem"]},
        buffers={"v_mem": []},
        spike_threshold=1.0,
        tau_syn=None,
        min_v_mem=None,
        norm_input=settings["norm_input"],
        train_alphas=False,
        record_states=True,
        surrogate_grad_fn=SingleExponential(),
        spike_fn=SingleSpike,
        reset_fn=resets[settings["reset_fn"]](),
    )


def run_snntorch(layer, x, v0):
    mem, spikes, membranes = v0, [], []
    for x_t in x:
        spk, mem = layer(x_t, mem)
        spikes.append(spk)
        membranes.append(mem)
    return torch.stack(spikes), torch.stack(membranes)


def run_norse(layer, x, v0):
    state = namedtuple("State", "v i")(v0, torch.zeros_like(v0))
    spikes, membranes = [], []
    for x_t in x:
        z, state = layer(x_t, state)
        spikes.append(z)
        membranes.append(state.v)
    return torch.stack(spikes), torch.stack(membranes)


def run_sinabs(layer, x, v0):
    layer.v_mem = v0
    spikes = layer(x.transpose(0, 1)).transpose(0, 1)
    return spikes, layer.recordings["v_mem"].transpose(0, 1)


NEURONS = {
    "snntorch_leaky": (leaky, run_snntorch),
    "snntorch_leaky_strong_input": (leaky, run_snntorch),
    "norse_lif_box": (norse("LIFBoxCell", "norse.torch.module.lif_box"), run_norse),
    "norse_lif": (norse("LIFCell", "norse.torch.module.lif"), run_norse),
    "sinabs_lif": (sinabs, run_sinabs),
}


@pytest.mark.filterwarnings("ignore:lif runs in plain", "ignore:Leaky runs in plain")
@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_reproduces_its_trace(name):
    trace = recorded(name)
    make, run = NEURONS[name]
    x, v0, weights = inputs_of(trace)
    x.requires_grad_()
    v0.requires_grad_()
    seen = 0
    for case in trace["cases"]:
        settings = case["settings"]
        spikes, membranes = run(sn.replace(make(settings)), x, v0)
        gradients = torch.autograd.grad((weights * spikes).sum(), (x, v0))
        assert spikes.long().tolist() == case["spikes"]
        # The library casts to float32 inside.
        tolerance = 1e-6 if settings.get("reset_delay") is False or "reset_fn" in settings else 1e-12
        for value, key in ((membranes, "v_seq"), *zip(gradients, ("grad_x", "grad_v0"))):
            expected = torch.tensor(case[key], dtype=torch.float64)
            torch.testing.assert_close(value.detach(), expected, rtol=0, atol=tolerance)
        seen += 1
    assert seen > 1


@pytest.mark.filterwarnings("ignore:Leaky runs in plain")
def test_a_membrane_that_stays_above_the_threshold_by_hand():
    """2.5 fires and becomes 1.5; then 0.75 - 1 is compared, but 0.75 is stored; then 0.375."""
    settings = {"beta": 0.5, "threshold": 1.0, "reset_mechanism": "subtract", "reset_delay": False}
    x = torch.tensor([2.5, 0.0, 0.0], dtype=torch.float64).view(3, 1, 1)
    spikes, membranes = run_snntorch(sn.replace(leaky(settings)), x, torch.zeros(1, 1).double())
    assert spikes.flatten().tolist() == [1, 0, 0]
    assert membranes.flatten().tolist() == [1.5, 0.75, 0.375]
