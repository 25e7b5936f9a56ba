"""Replaced neurons are instances of their library's classes, and inherit nothing from these."""

import copy
import pickle
import sys
from types import ModuleType

import pytest
import torch
from jelly import IFNode, LIFNode, Node, named
from replaced import leaky, norse, stand_in
from torch import nn

from snnfast import nn as sn
from snnfast.nn.state import Stateful


class Folding(nn.Module):
    """A network that folds time into the batch for every layer that is no neuron."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 6), LIFNode(), nn.Linear(6, 4), IFNode()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Node) else layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Folding()


X = torch.rand(7, 3, 5, generator=torch.Generator().manual_seed(1)) * 8


def test_a_forward_that_asks_for_the_base_class_runs_neurons_over_time(net):
    ours, expected = sn.replace(net), net(X)
    assert expected.any()
    torch.testing.assert_close(ours(X), expected, rtol=0, atol=0)
    sn.reset(ours)
    torch.testing.assert_close(torch.compile(ours, backend="eager", fullgraph=True)(X), expected, rtol=0, atol=0)
    for layer, original in zip(ours.layers[1::2], net.layers[1::2]):
        assert isinstance(layer, type(original))
        assert isinstance(layer, Stateful)
        assert type(layer).__name__ == type(original).__name__


def test_every_library():
    settings = {"beta": 0.5, "threshold": 1.0, "reset_mechanism": "zero", "reset_delay": True}
    cell = norse("LIFBoxCell", "norse.torch.module.lif_box")(
        {"tau_mem_inv": 100.0, "v_th": 1.0, "v_reset": 0.0, "v_leak": 0.0, "dt": 1e-3}
    )
    exp_leak = stand_in(
        *("sinabs.layers.exp_leak", "ExpLeak", {"tau_mem": 5.0, "tau_syn": 5.0}, {"v_mem": 0.0}),
        **dict.fromkeys(("train_alphas", "norm_input", "record_states"), False),
        **dict.fromkeys(("spike_fn", "reset_fn", "surrogate_grad_fn", "min_v_mem")),
        spike_threshold=1.0,
    )
    for neuron in (leaky(settings), cell, exp_leak):
        assert isinstance(sn.replace(neuron), type(neuron))


def test_attributes_of_the_library_are_not_inherited():
    @named("LIFNode")
    class Copying(LIFNode):
        def __deepcopy__(self, memo):
            raise AssertionError

    ours = sn.replace(Copying())
    assert isinstance(copy.deepcopy(ours), Copying)
    assert not hasattr(ours, "charge")
    ours.charge = 3
    assert ours.charge == 3


def test_a_copy_of_a_copy_and_a_file_are_instances_too(net, monkeypatch):
    ours, expected = sn.replace(net), net(X)
    for name in ("spikingjelly", "spikingjelly.activation_based", "spikingjelly.activation_based.neuron"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for kind in (IFNode, LIFNode):
        monkeypatch.setattr(sys.modules[kind.__module__], kind.__name__, kind, raising=False)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), sn.accelerate(ours)):
        torch.testing.assert_close(other(X), expected, rtol=0, atol=0)
        assert isinstance(other.layers[1], Node)


def test_a_file_loads_without_the_library(net):
    ours = sn.replace(net.layers[1])
    loaded = pickle.loads(pickle.dumps(ours))
    assert type(loaded).__name__ == "LIFNode"
    assert not isinstance(loaded, Node)
    torch.testing.assert_close(loaded(X), ours(X), rtol=0, atol=0)


def test_replaced_neurons_are_not_replaced_again(net):
    with pytest.raises(ValueError, match=r"^replace: the neurons of net are replaced already"):
        sn.replace(sn.replace(net))
