"""Neurons of snnTorch and Norse in loops, as layers of the package: step by step, against copy and original."""

import pytest
import torch
from torch import nn

import snnfast
from snnfast import nn as sn

norse = pytest.importorskip("norse.torch")
snn = pytest.importorskip("snntorch")
X = torch.rand(12, 3, 4, generator=torch.Generator().manual_seed(2)) * 4 - 1
SNNTORCH = {
    "to zero": lambda: snn.Leaky(beta=0.8, reset_mechanism="zero"),
    "to zero at once": lambda: snn.Leaky(beta=0.8, reset_mechanism="zero", reset_delay=False),
    "per neuron": lambda: snn.Leaky(beta=torch.linspace(0.5, 0.9, 4), threshold=0.7),
    "learned": lambda: snn.Leaky(beta=0.8, learn_beta=True, learn_threshold=True),
    "Lapicque": lambda: snn.Lapicque(R=2.0, C=1.5, time_step=0.9),
    "Lapicque, to zero": lambda: snn.Lapicque(R=2.0, C=1.5, reset_mechanism="zero"),
    "Synaptic": lambda: snn.Synaptic(alpha=0.4, beta=0.7),
    "Synaptic, to zero": lambda: snn.Synaptic(alpha=0.4, beta=0.7, reset_mechanism="zero"),
    "RLeaky": lambda: snn.RLeaky(beta=0.7, linear_features=4),
    "RSynaptic": lambda: snn.RSynaptic(alpha=0.4, beta=0.7, linear_features=4, reset_mechanism="zero"),
}
NORSE = {
    "LIFBoxCell": lambda: norse.LIFBoxCell(norse.LIFBoxParameters(v_th=torch.as_tensor(0.1))),
    "LIBoxCell": lambda: norse.LIBoxCell(),
    "IAFCell": lambda: norse.IAFCell(),
    "LIFCell": lambda: norse.LIFCell(norse.LIFParameters(v_th=torch.as_tensor(0.1))),
    "LICell": lambda: norse.LICell(),
    "LILinearCell": lambda: norse.LILinearCell(4, 3),
    "LIFRecurrentCell": lambda: norse.LIFRecurrentCell(4, 5, p=norse.LIFParameters(v_th=torch.as_tensor(0.05))),
    "with autapses": lambda: norse.LIFRecurrentCell(
        4, 5, p=norse.LIFParameters(v_th=torch.as_tensor(0.05)), autapses=True
    ),
}


class KeepsState(nn.Module):
    """Loop over a neuron that keeps its states."""

    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, x):
        self.neuron.reset_mem()
        return torch.stack([self.neuron(x_t)[0] for x_t in x])


class PassesState(KeepsState):
    """Loop that passes the states from step to step."""

    def forward(self, x):
        state, outputs = None, []
        for x_t in x:
            out, state = self.neuron(x_t, state)
            outputs.append(out)
        return torch.stack(outputs)


def one_by_one(net):
    step = snnfast.export.Step(net)
    states, outputs = step.start(X[0]), []
    for x_t in X:
        y, *states = step(x_t, *states)
        outputs.append(y)
    return torch.stack(outputs)


@pytest.mark.parametrize("name", [*SNNTORCH, *NORSE])
def test_a_neuron_as_a_layer(name):
    torch.manual_seed(0)
    net = KeepsState(SNNTORCH[name]()) if name in SNNTORCH else PassesState(NORSE[name]())
    with torch.no_grad():
        expected = net(X)
    assert expected.unique().numel() > 1
    torch.testing.assert_close(one_by_one(sn.replace(net, verify=X)), expected, rtol=0, atol=1e-5)


REFUSED = {
    "inhibition": (lambda: KeepsState(snn.Leaky(beta=0.8, inhibition=True)), "no kernel leaves one spike a sample"),
    "graded": (lambda: KeepsState(snn.Leaky(beta=0.8, graded_spikes_factor=2.0)), "its spikes are graded"),
    "no reset": (lambda: KeepsState(snn.Leaky(beta=0.8, reset_mechanism="none")), "it has no reset"),
    "Alpha": (
        lambda: KeepsState(snn.Alpha(alpha=0.8, beta=0.7, reset_mechanism="none")),
        "its membrane is a sum of two currents",
    ),
    "LSNNCell": (lambda: PassesState(norse.LSNNCell()), "no kernel of the package is its equal"),
}


@pytest.mark.filterwarnings("ignore:Leaky runs in plain")
@pytest.mark.parametrize("name", REFUSED)
def test_a_neuron_without_a_layer_is_refused(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"^Step: neuron, .*, has no layer of its own here: {words}"):
        snnfast.export.Step(sn.replace(make()))


@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
def test_layers_that_keep_their_states_in_a_sequence(mechanism):
    torch.manual_seed(0)
    settings = {"beta": 0.8, "threshold": 0.2, "init_hidden": True, "reset_mechanism": mechanism}
    net = nn.Sequential(nn.Linear(4, 5), snn.Leaky(**settings), nn.Linear(5, 3), snn.Leaky(**settings))
    fast = sn.replace(net, sequences=True, verify=X)
    expected = fast(X).detach()
    assert expected.unique().numel() > 1
    torch.testing.assert_close(one_by_one(fast), expected, rtol=0, atol=1e-5)
    net[3].output = True
    with pytest.raises(ValueError, match=r"^Step: 3, a Leaky, .*: it returns spikes and membranes; set its"):
        snnfast.export.Step(sn.replace(net, sequences=True))
