"""``fuse``, ``replace`` and ``accelerate`` of layers whose ``forward`` was set on the instance, or is TorchScript's."""

import types
import warnings

import pytest
import torch
from jelly import IFNode
from looping import Layers
from torch import nn

from snnfast import nn as sn


class Adapter(nn.Module):
    """Add a product of low rank to that of a layer, by a ``forward`` set on the instance."""

    def __init__(self, layer):
        super().__init__()
        self.down = nn.Linear(layer.in_features, 1, bias=False)
        self.up = nn.Linear(1, layer.out_features, bias=False)
        whole = layer.forward
        layer.forward = lambda x: whole(x) + self.up(self.down(x))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), IFNode(), nn.Linear(5, 3)).eval()


@pytest.mark.parametrize("function", [sn.fuse, sn.replace, sn.accelerate])
@pytest.mark.parametrize("place", [0, 1, 2, 3, None])
def test_a_forward_set_on_an_instance_is_refused_by_name(function, place):
    net = network()
    layer = net if place is None else net[place]
    layer.forward = types.MethodType(type(layer).forward, layer)
    name, kind = "net" if place is None else place, type(layer).__name__
    with pytest.raises(
        ValueError, match=rf"^{function.__name__}: {name}, a {kind}, has a forward of its own, set on the instance"
    ):
        function(net)
    del layer.forward
    function(net)


@pytest.mark.parametrize("function", [sn.fuse, sn.replace, sn.accelerate])
def test_an_adapter_and_a_compiled_layer_are_refused(function):
    net = network()
    adapter = Adapter(net[0])
    with pytest.raises(ValueError, match=rf"^{function.__name__}: 0, a Linear, has a forward of its own"):
        function(net)
    assert adapter.down.weight.grad is None
    net = network()
    net[3] = torch.compile(net[3])
    with pytest.raises(ValueError, match=rf"^{function.__name__}: 3, a OptimizedModule, has a forward"):
        function(net)


@pytest.mark.parametrize("function", [sn.fuse, sn.replace, sn.accelerate])
def test_a_scripted_layer_stays(function):
    net = network()
    net[3] = torch.jit.script(net[3])
    x = torch.randn(6, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.fx cannot trace the stand-in of a neuron
        got = function(net)
    assert isinstance(got[3], torch.jit.ScriptModule)
    assert got[3].weight.data_ptr() != net[3].weight.data_ptr()
    torch.testing.assert_close(got(x), net(x))


def test_training_the_copy_of_a_scripted_layer_leaves_the_source_alone():
    """The copy that PyTorch makes would pass its gradients on to the original."""
    net = nn.Sequential(nn.Linear(4, 5), torch.jit.script(nn.Sequential(nn.Linear(5, 3), nn.ReLU())))
    fast = sn.accelerate(net)
    fast(torch.rand(6, 4)).sum().backward()
    assert all(p.is_leaf and p.grad is not None for p in fast.parameters())
    assert all(p.grad is None for p in net.parameters())


def test_a_scripted_layer_and_one_that_shares_its_weight():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)))
    net = nn.Sequential(scripted, nn.Linear(4, 4), IFNode())
    net[1].weight = next(scripted.parameters())
    for fast in (sn.replace(net), sn.accelerate(sn.replace(net))):
        assert fast[1].weight is next(fast[0].parameters())
        assert fast[1].weight is not net[1].weight


def test_a_scripted_layer_in_a_loop():
    net = Layers().float()
    net.fc1 = torch.jit.script(net.fc1)
    x = torch.rand(2, 4)
    with pytest.warns(UserWarning, match="cannot be taken apart at fc1: a RecursiveScriptModule may depend on"):
        fast = sn.replace(net)
    expected = sn.replace(net, sequences=False)(x)
    assert expected[0].any()
    torch.testing.assert_close(fast(x), expected)
