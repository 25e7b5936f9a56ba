"""A state dict of SpikingJelly's classes, trained there, loads into a new copy here: the same keys, equal spikes."""

import io
import math

import plain_jelly
import pytest
import torch
from jelly import Node, named
from replaced import inputs, loud
from torch import nn

from snnfast import nn as sn
from snnfast.ports.older_spikingjelly import neuron as older

# Every kind of neuron of activation_based that replace takes, with settings.
KINDS = {
    "IFNode": {"v_reset": None},
    "LIFNode": {"tau": 3.0},
    "ParametricLIFNode": {"init_tau": 3.0},
    "QIFNode": {"v_reset": -0.2},
    "EIFNode": {"v_reset": -0.3},
    "IzhikevichNode": {"tau_w": 4.0, "a": 0.5, "b": 0.25},
    "KLIFNode": {"tau": 3.0},
    "ComplementaryLIFNode": {"tau": 3.0},
    "ILIFNode": {"tau": 2.0},
    "RAFNode": {"v_reset": None, "b": -0.1},
    "TernaryIFNode": {"v_reset": None},
    "TernaryLIFNode": {"tau": 3.0, "v_reset": -0.2},
    "SimpleIFNode": {},
    "SimpleLIFNode": {"tau": 3.0, "decay_input": True},
    "HalfThresholdIFNode": {"v_threshold": 1.5},
    "CUBALIFNode": {"c_decay": 0.3},
    "GatedLIFNode": {"T": 12},
}


def network(node, seed):
    """Return a neuron behind a layer, with parameters and statistics as after training."""
    torch.manual_seed(seed)
    net = nn.Sequential(loud(nn.Linear(5, 6)), nn.Unflatten(-1, (6, 1, 1)), node)
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
    return net.eval()


def saved(net):
    """Save and load a state dict as a file, without unpickling."""
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def loads(theirs, ours):
    """Load the saved weights of ``theirs`` into a copy that has others; compare spikes."""
    state = saved(theirs)
    assert list(ours.state_dict()) == list(state)
    x, step = inputs(12, 3, 5, high=3.0), getattr(theirs[-1], "step_mode", "m") == "s"

    def run(net):
        return torch.stack([net(x_t) for x_t in x]) if step else net(x)

    with torch.no_grad():
        before = run(ours)
        ours[-1].reset()
        assert ours.load_state_dict(state) == ([], [])
        found, expected = run(ours), run(theirs)
        assert expected.any()
        assert (before != expected).any()
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_neuron(name, mode):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    nets = []
    for seed in (0, 1):
        node = getattr(neuron, name)(**KINDS[name])
        if name != "GatedLIFNode":  # takes sequences alone
            node.step_mode = mode
        nets.append(network(node, seed))
    loads(nets[0], sn.replace(nets[1]))


@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "ParametricLIFNode", "EIFNode"])
def test_the_older_half_without_the_library(name):
    """Its equations in plain PyTorch stand for the classes of clock_driven; ours are those of snnfast.ports."""
    theirs = type(f"MultiStep{name}", (getattr(plain_jelly, name),), {})
    ours = getattr(older, f"MultiStep{name}")
    loads(network(theirs(), 0), network(ours(), 1))


@named("KLIFNode")
class KLIFNode(Node):
    def __init__(self):
        super().__init__()
        self.k, self.scale_reset, self.tau = nn.Parameter(torch.tensor(2.0)), False, 2.0


@named("ParametricLIFNode")
class ParametricLIFNode(Node):
    def __init__(self):
        super().__init__()
        self.w, self.decay_input = nn.Parameter(torch.tensor(-math.log(2.0))), True


@pytest.mark.parametrize("kind", [KLIFNode, ParametricLIFNode])
def test_learned_parameters_without_the_library(kind):
    """The keys of stand-ins for its classes; ours with loaded weights, and ours made of the trained network, agree."""
    theirs = network(kind(), 0)
    made = sn.replace(theirs)
    loads(made, sn.replace(network(kind(), 1)))
    assert list(made.state_dict()) == list(theirs.state_dict())
