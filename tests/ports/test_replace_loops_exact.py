"""``replace(sequences=True)`` refuses code that it cannot trace exactly, and never freezes or omits it."""

import copy
import random

import pytest
import torch
from looping import STEPS, Layers, changed, loop
from replaced import loud, same
from torch import nn
from torch.nn import functional

from snnfast import nn as sn
from snnfast.ports.unrolling import UNROLLED

X = torch.rand(9, 5, 4, generator=torch.Generator().manual_seed(1)) * 2


def unroll(step=lambda self, x, t: self.fc1(x[t]), last=None, steps=lambda x: range(x.size(0))):
    """Return a forward that loops over the steps of its input and also returns ``last(self, x, spikes, t)``."""

    def forward(self, x):
        mem, spikes = self.lif1.init_leaky(), []
        for t in steps(x):
            spk, mem = self.lif1(step(self, x, t), mem)
            spikes.append(spk)
        every = torch.stack(spikes)
        return every if last is None else (every, last(self, x, spikes, t))

    return forward


def recorded(self, x):
    mem, inputs = self.lif1.init_leaky(), []
    for x_t in x:
        spk, mem = self.lif1(self.fc1(x_t), mem)
        inputs.append(x_t)
    return spk, torch.stack(inputs)


def energy(self, x):
    mem, total = self.lif1.init_leaky(), 0
    for x_t in x:
        spk, mem = self.lif1(self.fc1(x_t), mem)
        total = total + (x_t**2).mean()
    return spk, total


def burn_in(self, x):
    mem, total = self.lif1.init_leaky(), 0
    for t in range(x.size(0)):
        spk, mem = self.lif1(self.fc1(x[t]), mem)
        if t >= 7:
            total = total + spk
    return total


OTHER = "with 40 steps it is another than with 5"
FROZEN = {
    "a mean by len": (unroll(last=lambda s, x, o, t: sum(o) / len(o)), f"at truediv in forward: {OTHER}"),
    "a mean by a number": (
        unroll(last=lambda s, x, o, t: sum(o) / int(x.size(0))), f"at truediv in forward: {OTHER}",
    ),
    "recorded inputs": (recorded, OTHER),
    "sums of the input": (energy, OTHER),
    "the last step": (unroll(last=lambda s, x, o, t: x[t]), f"at getitem in forward: {OTHER}"),
    "the number of the last step": (unroll(last=lambda s, x, o, t: o[-1] * (t + 1)), f"at mul in forward: {OTHER}"),
    "a step less": (unroll(steps=lambda x: range(int(x.size(0)) - 1)), "at lif1: of 40 steps of the input it takes 39"),
    "later steps alone": (burn_in, "."),
    "later steps otherwise": (
        unroll(lambda s, x, t: s.fc1(x[t]) if t < 7 else s.fc1(x[t]) * 0), "at mul in forward: steps do not all do",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FROZEN)
def test_what_depends_on_the_number_of_steps_is_refused(name):
    assert UNROLLED == 5
    forward, words = FROZEN[name]
    net = changed(forward).float()
    sn.replace(net, sequences=False)(X)  # the loop runs
    with pytest.raises(ValueError, match=words):
        sn.replace(net, sequences=True)


def test_a_branch_on_late_steps_is_seen_with_verify():
    step = lambda s, x, t: s.fc1(x[t]) if t < 45 else s.fc1(x[t]) * 0  # noqa: E731
    net, x = changed(unroll(step)).float(), torch.rand(50, 2, 4)
    sn.replace(net, sequences=True)
    with pytest.raises(ValueError, match="steps do not all do the same"):
        sn.replace(net, sequences=True, verify=x)


def test_numbers_of_steps_that_the_copy_looks_up_are_kept():
    def forward(self, x):
        mem, total = self.lif1.init_leaky(), torch.zeros(x.shape[1], 6)
        spikes = []
        for t in range(len(x)):
            spk, mem = self.lif1(self.fc1(x[t]), mem=mem)
            spikes.append(spk)
        return torch.stack(spikes).mean(0) / x.size(0), total

    net = changed(forward).float()
    fast = sn.replace(net, sequences=True)
    for x in (X, X[:3]):
        for a, b in zip(fast(x), sn.replace(net, sequences=False)(x)):
            same(a, b)


def in_place(change):
    def step(self, x, t, mem):
        current = self.fc1(x)
        change(self, current, mem)
        return self.lif1(current, mem)

    return loop(step)


def running(self, x):
    mem, total, sums = self.lif1.init_leaky(), 0, []
    for _ in range(STEPS):
        spk, mem = self.lif1(self.fc1(x), mem)
        total += spk
        sums.append(total)
    return torch.stack(sums)


def backwards(self, x):
    mem, spikes = self.lif1.init_leaky(), torch.zeros(STEPS, 5, 6)
    for t in range(STEPS):
        spikes[STEPS - 1 - t], mem = self.lif1(self.fc1(x), mem)
    return spikes


def read_between(self, x):
    mem, spikes = self.lif1.init_leaky(), torch.zeros(STEPS, 5, 6)
    for t in range(STEPS):
        spikes[t], mem = self.lif1(self.fc1(x) + spikes[0], mem)
    return spikes


def of_the_net(self, x):
    mem = self.lif1.init_leaky()
    for t in range(STEPS):
        self.trace[t], mem = self.lif1(self.fc1(x), mem)
    return self.trace


def halved(self, x):
    mem, spikes = self.lif1.init_leaky(), []
    for _ in range(STEPS):
        view = x[:, :]
        view *= 0.5
        spk, mem = self.lif1(self.fc1(x), mem)
        spikes.append(spk)
    return torch.stack(spikes)


def keeps(self, x):
    self.spikes = loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x)
    return self.spikes


def counts(self, x):
    self.calls += 1
    return loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x)


CHANGES = {
    "a membrane": (in_place(lambda s, c, m: m.detach_()), "at detach_ in forward: it changes its input in place"),
    "a current": (in_place(lambda s, c, m: c.clamp_(0, 0.5)), "at clamp_ in forward: it changes"),
    "a function": (in_place(lambda s, c, m: torch.relu_(c)), "at relu_ in forward: it changes"),
    "a buffer": (in_place(lambda s, c, m: s.trace.mul_(0.5)), "at mul_ in forward: it changes"),
    "running sums": (running, "at add in forward: it changes in place what something else reads"),
    "elements from the last": (backwards, "at __setitem__ in forward: it changes"),
    "elements that are read": (read_between, "steps do not all do the same"),
    "elements of a buffer": (of_the_net, "at setitem in forward: it changes"),
    "a view": (halved, "at mul in forward: it changes in place what something else reads"),
    "statistics": (in_place(lambda s, c, m: s.norm(c)), "at norm: nothing takes its result"),
    "an attribute": (keeps, "the forward of Changed cannot be followed: it keeps spikes in the network"),
    "a number": (counts, "it keeps calls in the network"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_forward_changes_is_refused(name):
    forward, words = CHANGES[name]
    net = changed(forward, norm=nn.BatchNorm1d(6), calls=0)
    net.register_buffer("trace", torch.zeros(6))
    with pytest.raises(ValueError, match=words):
        sn.replace(net.float(), sequences=True)


def test_sums_in_place_are_sums():
    def forward(self, x):
        mem, total = self.lif1.init_leaky(), 0
        for x_t in x:
            current = self.fc1(x_t)
            current *= self.scale
            spk, mem = self.lif1(current, mem)
            total += spk
        return total

    net = changed(forward)
    net.register_buffer("scale", torch.tensor(2.0))
    fast, slow = sn.replace(net.float(), sequences=True), sn.replace(net, sequences=False)
    same(fast(X), slow(X))
    for one in (fast, slow):  # a buffer is not a constant
        one.scale.fill_(0.5)
    same(fast(X), slow(X))


def without_gradients(self, x):
    with torch.no_grad():
        current = self.fc1(x)
    return loop(lambda s, x, t, m: s.lif1(current, m))(self, x)


def in_bfloat16(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        current = self.fc1(x)
    return loop(lambda s, x, t, m: s.lif1(current, m))(self, x)


@pytest.mark.parametrize("forward", [without_gradients, in_bfloat16])
def test_switched_gradients_are_refused_with_the_line(forward):
    words = r"switches gradients or autocast .*test_replace_loops_exact.py:\d+: current = self.fc1\(x\)\)"
    with pytest.raises(ValueError, match=words):
        sn.replace(changed(forward).float(), sequences=True)
    assert torch.is_grad_enabled()


def by_mode(self, x):
    x = x + 0.5 if self.training else x
    return loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x)


def noisy(self, x):
    x = x + torch.randn(4)
    return loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x)


def scaled(self, x):
    return loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x) * random.random()


def by_gradients(self, x):
    x = x + 0.5 if torch.is_grad_enabled() else x
    return loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x)


def by_none(self, x, quiet=None):
    x = x + 0.5 if quiet is None else x
    return loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (by_gradients, r"it is another under torch.no_grad\(\)"),
        (by_none, "it is another where quiet is None"),
        (by_mode, r"another in train\(\) than in eval\(\)"),
        (noisy, "at _tensor_constant0 .*: it is another each time: random numbers"),
        (scaled, "at mul in forward: it is another each time"),
    ],
)
def test_what_is_another_at_the_next_call_is_refused(forward, words):
    nets = changed(forward), changed(forward).eval()
    before = torch.random.get_rng_state()
    for net in nets:
        with pytest.raises(ValueError, match=words):
            sn.replace(net.float(), sequences=True)
    torch.testing.assert_close(torch.random.get_rng_state(), before, rtol=0, atol=0)


def test_an_argument_that_may_be_none_and_is_not_looked_at():
    def forward(self, x, unused=None):
        return loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x)

    net = changed(forward).float()
    same(sn.replace(net, sequences=True)(X[0]), sn.replace(net, sequences=False)(X[0]))


def test_additions_with_a_factor_are_no_sums():
    def forward(self, x):
        mem, total = self.lif1.init_leaky(), 0
        for t in range(STEPS):
            spk, mem = self.lif1(self.fc1(x), mem)
            total = torch.add(total, spk, alpha=0.5) if t else spk
        return total

    with pytest.raises(ValueError, match="at lif1: what it returns is not taken apart"):
        sn.replace(changed(forward).float(), sequences=True)


@pytest.mark.parametrize("begin", [lambda s: None, lambda s: s.before])
def test_a_membrane_that_need_not_be_at_rest_is_refused(begin):
    """None stands for the state after the last call; a parameter learns."""

    def forward(self, x):
        mem, spikes = begin(self), []
        for x_t in x:
            spk, mem = self.lif1(self.fc1(x_t), mem)
            spikes.append(spk)
        return torch.stack(spikes)

    net = changed(forward, before=nn.Parameter(torch.zeros(6))).float()
    with pytest.raises(ValueError, match=r"at lif1: .*does not begin at rest"):
        sn.replace(net, sequences=True)


ELEMENTWISE = {
    "functions": lambda s, c: torch.where(c > 0.3, c.abs(), -(c**2)).exp().sqrt().sin(),
    "of two": lambda s, c: torch.maximum(c, -c).minimum(s.fc1.bias),
    "activations": lambda s, c: functional.elu(c) + functional.silu(c) + functional.softplus(c),
    "layers": lambda s, c: s.layers(c),
    "types": lambda s, c: (c > 0.2).to(s.fc1.bias.dtype).contiguous() + c.to("cpu").to(torch.float32),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_of_every_element(name):
    def forward(self, x):
        mem, membranes = self.lif1.init_leaky(), []
        for x_t in x:
            _, mem = self.lif1(ELEMENTWISE[name](self, self.fc1(x_t)), mem)
            membranes.append(mem)
        return torch.stack(membranes)

    layers = nn.Sequential(nn.PReLU(), nn.SELU(), nn.Hardswish())
    net = changed(forward, layers=layers, fc1=loud(nn.Linear(4, 6))).float()
    same(sn.replace(net, sequences=True)(X), sn.replace(net, sequences=False)(X))


@pytest.mark.parametrize(
    "view", [lambda c: c.view(c.size(0), -1), lambda c: c.reshape(c.shape[0], -1), lambda c: c.view(c.size(0), 6)]
)
def test_rows_by_the_size_of_a_step(view):
    net = changed(unroll(lambda s, x, t: view(s.fc1(x[t])))).float()
    same(sn.replace(net, sequences=True)(X), sn.replace(net, sequences=False)(X))


def test_plain_attributes_are_those_of_the_network():
    net = changed(unroll(), num_steps=7).float()
    fast = sn.replace(net, sequences=True)
    for one in (fast, copy.deepcopy(fast)):
        assert one.num_steps == 7
        assert list(one.state_dict()) == list(sn.replace(net, sequences=False).state_dict())
        same(one(X), sn.replace(net, sequences=False)(X))


def test_hooks_are_refused_which_would_see_all_steps_at_once():
    net = Layers()
    net.lif1.register_forward_hook(lambda *a: None)
    with pytest.raises(ValueError, match="replace: lif1 has hooks, which would see"):
        sn.replace(net, sequences=True)
