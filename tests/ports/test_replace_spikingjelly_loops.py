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


@torch.jit.script
def squashed(x, k: float = 2.0):
    return torch.sigmoid(x * k) - 0.5


@torch.jit.script
def centred(x):
    if bool(x.sum() > 0):
        x = x - 1.0
    return x


@named("MemoryModule", "spikingjelly.activation_based.base")
class MemoryModule(nn.Module):
    step_mode, mask = "s", None

    def reset(self):
        self.mask = None


@named("Dropout", "spikingjelly.activation_based.layer")
class Dropout(MemoryModule):
    """One mask for all steps."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        if self.mask is None:
            self.mask = nn.functional.dropout(torch.ones_like(x).detach(), self.p)
        return x * self.mask


class Branches(Loop):
    """Loop over steps with branches, which ``join`` joins."""

    def __init__(self, join, resets=True):
        super().__init__(resets)
        self.join, self.drop = join, Dropout(0.4)
        self.left, self.right = loud(nn.Linear(4, 6)), loud(nn.Linear(4, 6))
        self.first, self.last = Step(), Step(v_reset=None)

    def forward(self, x):
        if self.resets:
            for module in self.modules():
                if module is not self and hasattr(module, "reset"):
                    module.reset()
        out = []
        for step in x:
            out.append(self.last(self.join(self, self.first(self.left(step)), self.right(step))))
        return torch.stack(out)


@pytest.mark.parametrize(
    "join",
    [
        lambda net, a, b: torch.cat((a, b), 1),
        lambda net, a, b: torch.cat([a, b], dim=-1),
        lambda net, a, b: torch.stack([a, b]).sum(0),
        lambda net, a, b: torch.stack((a, b), dim=-1).mean(dim=(1, 2), keepdim=True),
        lambda net, a, b: torch.sum(torch.stack([a, b], 1), 1),
        lambda net, a, b: a + squashed(b, k=3.0),
        lambda net, a, b: a + squashed(b),
        lambda net, a, b: a + net.drop(b),
    ],
)
def test_branches_of_a_step_are_joined(join):
    torch.manual_seed(0)
    net, x = Branches(join), inputs(7, 2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = sn.replace(net, verify=[x, x])
    assert fast.first.step_mode == "m"
    assert fast(x).any()


def test_branches_of_the_last_step_are_a_result():
    class Last(Branches):
        def forward(self, x):
            for module in self.modules():
                if module is not self and hasattr(module, "reset"):
                    module.reset()
            for step in x:
                spikes = self.first(self.left(step))
            return torch.stack([spikes, 2 * spikes])

    torch.manual_seed(0)
    assert sn.replace(Last(None), sequences=True, verify=inputs(7, 2, 4)).first.step_mode == "m"


@pytest.mark.parametrize("resets", [True, False])
def test_the_mask_of_dropout_lasts_until_a_reset(resets):
    torch.manual_seed(0)
    net, x = Branches(lambda net, a, b: a + net.drop(b.abs() + 1), resets), inputs(7, 2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = sn.replace(net, verify=[x, x])
    fast(x)
    mask = fast.drop.mask
    assert mask.shape == (2, 6)
    fast(x)
    assert (fast.drop.mask is mask) is not resets
    sn.reset(fast)
    assert fast.drop.mask is None
    assert fast.eval()(x).any()
    assert fast.drop.mask is None


@pytest.mark.parametrize(
    ("join", "why"),
    [
        (lambda net, a, b: a + b.sum(), "at sum.*: it reduces all dimensions of a step; give them by dim="),
        (lambda net, a, b: a + centred(b), "it calls centred, a torch.jit.script function with aten::gt|prim::If"),
    ],
)
def test_a_join_that_stays_a_loop_says_why(join, why):
    with pytest.raises(ValueError, match=why):
        sn.replace(Branches(join), sequences=True)
