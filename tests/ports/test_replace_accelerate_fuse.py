"""``replace``, ``accelerate`` and ``fuse`` one after the other, in float64, compared with the original network."""

import copy

import pytest
import torch
from jelly import IFNode, LIFNode, layer
from looping import changed, neuron
from torch import nn

from snnfast import nn as sn

X = torch.rand(5, 2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
ORDERS = ((), (sn.accelerate,), (sn.fuse,), (sn.accelerate, sn.fuse), (sn.fuse, sn.accelerate))


def trained(net):
    """Return ``net`` in float64 and evaluation mode, with statistics as after training."""
    torch.manual_seed(1)
    net = net.double()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, 0, 1)
            nn.init.normal_(module.running_mean, std=0.3)
    return net.eval()


def layers():
    return nn.Sequential(
        layer(nn.Conv2d, 1, 4, 3), layer(nn.BatchNorm2d, 4), LIFNode(), layer(nn.Conv2d, 4, 3, 3),
        layer(nn.BatchNorm2d, 3), IFNode(),
    )  # fmt: skip


class Listed(nn.Module):
    """A network that also has its layers in a list, a tuple and a dictionary, and calls them there."""

    def __init__(self, kind):
        super().__init__()
        self.net = layers()
        first, *others = self.net
        self.plain = {list: [first, *others], tuple: (first, *others), dict: {"first": first, "others": others}}[kind]

    def forward(self, x):
        for module in self.listed():
            x = module(x)
        return x

    def listed(self):
        return [self.plain["first"], *self.plain["others"]] if isinstance(self.plain, dict) else self.plain


class Mixed(Listed):
    """A network that calls some layers by their names and some in its list."""

    def forward(self, x):
        for module, listed in zip(self.net, self.listed()):
            x = (listed if isinstance(module, nn.BatchNorm2d) else module)(x)
        return x


def in_a_loop(self, x):
    mem1, mem2, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
    for t in range(len(x)):
        spk, mem1 = self.lif1(self.norm1(self.fc1(x[t])), mem1)
        spk, mem2 = self.lif2(self.norm2(self.fc2(spk.flatten(1))), mem2)
        spikes.append(spk)
    return torch.stack(spikes) @ self.fc3.weight


def loop():
    convolution = {"fc1": nn.Conv2d(1, 4, 3), "norm1": nn.BatchNorm2d(4), "lif1": neuron()}
    linear = {"fc2": nn.Linear(144, 3), "norm2": nn.BatchNorm1d(3), "lif2": neuron()}
    return changed(in_a_loop, **convolution, **linear, fc3=nn.Linear(3, 3))


def norms(net):
    return [module for module in net.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(f.__name__ for f in order) or "replace")
@pytest.mark.parametrize("name", ["layers", "list", "tuple", "dict", "mixed", "loop"])
@pytest.mark.filterwarnings("ignore:fuse")
def test_results_stay(name, order):
    kinds = {"list": list, "tuple": tuple, "dict": dict}
    makes = {"layers": layers, "loop": loop, "mixed": lambda: Mixed(list)}
    net = trained(Listed(kinds[name]) if name in kinds else makes[name]())
    # The stand-in for snnTorch's neuron has no forward.
    expected = sn.replace(net, sequences=False)(X) if name == "loop" else copy.deepcopy(net)(X)
    before = [(type(module), list(module._modules.values())) for module in net.modules()]
    fast = sn.replace(net)
    for function in order:
        fast = function(fast)
    assert expected.any()
    torch.testing.assert_close(fast(X), expected, rtol=1e-9, atol=1e-9)
    assert [(type(module), list(module._modules.values())) for module in net.modules()] == before
    if order == (sn.accelerate, sn.fuse) or (name == "loop" and sn.fuse in order):
        assert not norms(fast)
    if isinstance(net, Listed):
        assert all(a is b for a, b in zip(fast.net, fast.listed(), strict=True))


def test_a_weight_that_the_forward_of_a_loop_reads_is_not_folded():
    net = trained(loop())
    net.fc3 = net.fc2
    expected = sn.replace(net, sequences=False)(X)
    with pytest.warns(UserWarning, match="norm2, a BatchNorm1d, stays: forward itself reads a weight"):
        fused = sn.fuse(sn.replace(net))
    assert len(norms(fused)) == 1
    torch.testing.assert_close(fused(X), expected)
