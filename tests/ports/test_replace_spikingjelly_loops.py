"""``replace`` of networks of SpikingJelly in step mode ``"s"`` that run their steps in a loop, without SpikingJelly."""

import warnings

import pytest
import torch
from jelly import LIFNode, named
from replaced import inputs, loud
from torch import nn

from snnfast import nn as sn
from snnfast.ports.unrolling import UNROLLED


@named("LIFNode")
class Step(LIFNode):
    """Network that takes one step a call."""

    def __init__(self, **settings):
        super().__init__(step_mode="s", **settings)

    def forward(self, x):
        return super().forward(x.unsqueeze(0)).squeeze(0)


@named("Linear", "spikingjelly.activation_based.layer")
class Linear(nn.Linear):
    step_mode = "s"


class Loop(nn.Module):
    """Loop of SpikingJelly's tutorials."""

    def __init__(self, resets, kind=Linear, **settings):
        super().__init__()
        self.resets = resets
        layers = loud(kind(4, 6)), Step(**settings), loud(kind(6, 3)), Step(v_reset=None)
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        if self.resets:
            for module in self.modules():
                if module is not self and hasattr(module, "reset"):
                    module.reset()
        rates = 0.0
        for t in range(x.shape[0]):
            rates = rates + self.net(x[t])
        return rates / x.shape[0]


class Added(Loop):
    """Loop of the older tutorials."""

    def forward(self, x):
        count = self.net(x[0])
        for t in range(1, x.shape[0]):
            count += self.net(x[t])
        return count / x.shape[0]


def test_a_loop_that_adds_in_place_to_the_first_spikes():
    torch.manual_seed(0)
    net, x = Added(False), inputs(7, 2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = sn.replace(net, verify=x)
    assert fast.net.get_submodule("1").step_mode == "m"
    assert fast(x).any()


@pytest.mark.parametrize("kind", [Linear, nn.Linear])
@pytest.mark.parametrize("resets", [True, False])
def test_a_loop_of_steps_becomes_calls_of_sequences(resets, kind):
    torch.manual_seed(0)
    net = Loop(resets, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = sn.replace(net)
    steps = sn.replace(net, sequences=False)
    assert fast.net.get_submodule("1").step_mode == "m"
    assert list(fast.state_dict()) == list(net.state_dict())
    for call in range(3):  # without a reset calls continue
        x = inputs(7 + UNROLLED * (call == 1), 2, 4, seed=call)
        found, gradients = [], []
        for module in (net, fast, steps):
            leaf = x.clone().requires_grad_()
            found.append(module(leaf))
            if module is not net:
                weights = [p for p in module.parameters() if p.requires_grad]
                gradients.append(torch.autograd.grad(found[-1].square().sum(), [leaf, *weights]))
                sn.detach(module)
        assert 0.1 < found[0].mean() < 0.9
        torch.testing.assert_close(found[1], found[0])
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)
    assert len(found[0].unique()) > 1


def test_verified_and_begun_anew():
    torch.manual_seed(0)
    net, x = Loop(False), inputs(7, 2, 4)
    fast = sn.replace(net, verify=x)
    first = fast(x)
    sn.reset(fast)
    torch.testing.assert_close(fast(x), first)
    torch.testing.assert_close(first, net(x))


def test_a_start_that_is_not_at_rest_is_kept():
    torch.manual_seed(0)
    net, x = Loop(True), inputs(7, 2, 4)
    net.net[1]._memories_rv["v"] = 0.5  # as in HalfThresholdIFNode
    fast = sn.replace(net)
    torch.testing.assert_close(fast(x), net(x))
    torch.testing.assert_close(fast(x), net(x))


def test_membranes_of_all_calls_stay_a_loop():
    with pytest.warns(UserWarning, match="store_v_seq=True keeps the membranes of all calls"):
        sn.replace(Loop(False, store_v_seq=True))
    net, x = Loop(True, store_v_seq=True), inputs(7, 2, 4)
    fast = sn.replace(net)
    fast(x)
    fast(x)
    assert fast.net.get_submodule("1").v_seq.shape == (7, 2, 6)
