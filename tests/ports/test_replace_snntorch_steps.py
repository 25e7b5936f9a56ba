"""Steps and last states of snnTorch's neurons, with stand-ins: by hand, and steps compared with sequences."""

import pytest
import torch
from looping import neuron
from replaced import inputs, loud, same, stand_in, surrogate
from torch import nn

from snnfast import nn as sn


def neuron_of(name, **settings):
    """Return a stand-in for snnTorch's neuron of this name, with 6 features."""
    states = {"Synaptic": ["syn"], "RSynaptic": ["spk", "syn"], "RLeaky": ["spk"]}
    states = states.get(name, ["syn_exc", "syn_inh"] if name == "Alpha" else [])
    options = {"reset_mechanism": "subtract", "reset_delay": True} | settings
    options |= {"spike_grad": surrogate(2.0), "state_quant": False} | {
        key: settings.get(key, False) for key in ("inhibition", "init_hidden", "output")
    }
    buffers = {"beta": 0.8, "alpha": 0.9, "threshold": options.pop("threshold", 1.0)}
    buffers |= {"reset_mechanism_val": 0.0, "graded_spikes_factor": options.pop("factor", 1.0)}
    buffers |= {state: [] for state in (*states, "mem")}
    neuron = stand_in(f"snntorch._neurons.{name.lower()}", name, buffers=buffers, **options)
    if name.startswith("R"):
        neuron.recurrent = nn.Linear(6, 6)
    return neuron


class Loop(nn.Module):
    """Network that returns the spikes of all steps, and the last states."""

    def __init__(self, neuron):
        super().__init__()
        self.fc, self.neuron = loud(nn.Linear(4, 6)), neuron
        self.sends = hasattr(neuron, "recurrent")

    def forward(self, x):
        states = self.neuron.reset_mem()
        states = states if isinstance(states, tuple) else (states,)
        spikes = []
        for x_t in x:
            result = self.neuron(self.fc(x_t), *states)
            spikes.append(result[0])
            states = [result[k + (not self.sends)] for k in range(len(states))]
        return torch.stack(spikes), *states


@pytest.mark.filterwarnings("ignore:.*runs in plain PyTorch")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Leaky", {}),
        ("Leaky", {"reset_mechanism": "none"}),
        ("Leaky", {"reset_mechanism": "zero"}),
        ("Leaky", {"reset_mechanism": "zero", "reset_delay": False}),
        ("Leaky", {"reset_delay": False}),
        ("Synaptic", {}),
        ("Synaptic", {"reset_mechanism": "zero", "reset_delay": False}),
        ("Alpha", {"reset_mechanism": "none"}),
        ("Alpha", {"reset_mechanism": "zero"}),
        ("RLeaky", {"reset_delay": False}),
        ("RLeaky", {"reset_mechanism": "zero"}),
        ("RSynaptic", {}),
        ("RSynaptic", {"reset_mechanism": "zero"}),
    ],
    ids=str,
)
def test_last_states_are_those_of_the_loop(name, settings):
    torch.manual_seed(0)
    net, x = Loop(neuron_of(name, **settings)).float(), inputs(7, 3, 4)
    want = sn.replace(net)(x)
    for a, b in zip(sn.replace(net, sequences=True)(x), want, strict=True):
        same(a, b)
    # States of a step are not views: they may be detached in place, as snnTorch's detach does.
    spk, *states = sn.replace(neuron_of(name, **settings).float())(loud(net.fc)(x[0]))
    for state in (*states, spk) if name.startswith("R") else states:
        assert state.shape == (3, 6)
        state.detach_()
        assert not state.requires_grad


def test_a_membrane_that_is_detached_in_place_has_no_graph():
    ours, x = sn.replace(neuron().float()), inputs(2, 3, 6, high=3.0).requires_grad_()
    spk, mem = ours(x[0], ours.init_leaky())
    assert spk.any()
    _, expected = ours(x[1], mem)
    _, mem = ours(x[0], ours.init_leaky())
    mem.detach_()
    _, mem = ours(x[1], mem)
    same(mem, expected)
    (gradient,) = torch.autograd.grad(mem.sum(), x)
    assert gradient[1].any()
    assert not gradient[0].any()


@pytest.mark.filterwarnings("ignore:Leaky runs in plain PyTorch")
def test_inhibition_passes_over_the_factor_of_spikes():
    ours = sn.replace(neuron_of("Leaky", inhibition=True, factor=0.5).float())
    spikes, _ = ours(torch.tensor([[2.0, 3.0, 0.0]]))
    assert spikes.tolist() == [[0.0, 1.0, 0.0]]
    spikes, _ = sn.replace(neuron_of("Leaky", factor=0.5).float())(torch.tensor([[2.0, 3.0, 0.0]]))
    assert spikes.tolist() == [[0.5, 0.5, 0.0]]
    # The reset still divides by the factor: 3 - 1 / 0.5.
    ours = sn.replace(neuron_of("Leaky", inhibition=True, factor=0.5, reset_delay=False).float())
    assert ours(torch.tensor([[2.0, 3.0, 0.0]]))[1].tolist() == [[2.0, 1.0, 0.0]]


@pytest.mark.filterwarnings("ignore:Leaky runs in plain PyTorch")
def test_inhibition_leaves_who_is_highest_above_its_own_threshold():
    ours = sn.replace(neuron_of("Leaky", inhibition=True, threshold=[1.0, 2.5, 0.5]).float())
    spikes, _ = ours(torch.tensor([[2.0, 3.0, 0.0]]))
    assert spikes.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.filterwarnings("ignore:Alpha runs in plain PyTorch")
def test_alpha_without_a_reset_keeps_its_currents_where_it_runs_by_steps():
    none = {"reset_mechanism": "none", "threshold": 0.1}
    ours, plain = (sn.replace(neuron_of("Alpha", **none, inhibition=i).float()) for i in (True, False))
    states = expected = ours.reset_mem()
    for x in torch.tensor([[[2.0, 3.0, 0.0]]] * 4):
        spikes, *states = ours(x, *states)
        _, *expected = plain(x, *expected)
        for state, other in zip(states, expected):
            same(state, other)
    assert spikes.tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"beta": 0.0}, "less than 0.001 of its membrane"),
        ({"threshold": -0.5, "reset_mechanism": "zero"}, "its threshold is negative"),
    ],
)
def test_constants_that_are_loaded_choose_the_way_of_the_steps(settings, why):
    options = {"reset_mechanism": "subtract", "reset_delay": "beta" in settings} | settings
    other = {"reset_mechanism": options["reset_mechanism"], "reset_delay": options["reset_delay"]}
    beta = options.pop("beta", 0.8)
    theirs, ours = neuron_of("Leaky", **options).float(), sn.replace(neuron_of("Leaky", **other).float())
    theirs.beta.fill_(beta)
    x = torch.tensor([[1.5, -1.0, 2.0]])
    assert not ours.why
    ours.load_state_dict(theirs.state_dict(), strict=False)
    runs = []
    for one in (ours, sn.replace(theirs)):
        with pytest.warns(UserWarning, match=why):
            runs.append([one(x)[1] for _ in range(3)])
    for found, expected in zip(*runs):
        same(found, expected, exact=True)
    ours.load_state_dict(neuron_of("Leaky", **other).float().state_dict(), strict=False)
    assert not ours.why


@pytest.mark.parametrize("name", ["Leaky", "Synaptic"])
def test_a_negative_threshold_with_a_reset_at_once(name):
    """A membrane of 0 is above it: s = m > -0.5, r that of the membrane before; m - (s - r) m."""
    settings = {"reset_mechanism": "zero", "reset_delay": False, "threshold": -0.5}
    ours, steps = sn.replace(neuron_of(name, **settings).float()), []
    states = ours.reset_mem()
    states = states if name == "Synaptic" else (states,)
    for x in (1.0, -1.0, 2.0):
        with pytest.warns(UserWarning, match="its threshold is negative"):
            spk, *states = ours(torch.full((1, 1), x), *states)
        steps += [float(spk), float(states[-1])]
    if name == "Leaky":
        # r = 1, so 1 is not reset; r = 1 and -1 is below: -1 - 1; r = 0: -1.6 + 2 fires, and is reset.
        assert steps == pytest.approx([1.0, 1.0, 0.0, -2.0, 1.0, 0.0])
