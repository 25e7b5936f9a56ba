"""``replace(sequences=True)`` of networks of snnTorch that run their steps in a loop, without snnTorch."""

import copy
import io
import operator
import warnings

import pytest
import torch
from looping import STEPS, Layers, changed, loop, neuron
from replaced import loud, norse, same
from torch import nn
from torch.nn import functional

from snnfast import nn as sn
from snnfast.ports.unrolling import UNROLLED


class Images(nn.Module):
    """Functions of PyTorch between the layers; a constant number of steps."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = loud(nn.Conv2d(1, 8, 3)), nn.AvgPool2d(2)
        self.blocks = nn.ModuleList(neuron() for _ in range(3))
        self.late, self.fc = loud(nn.Conv2d(8, 8, 2)), loud(nn.Linear(8, 3))

    def forward(self, x):
        states = [block.init_leaky() for block in self.blocks]
        spikes = []
        for t in range(STEPS):
            spk, states[0] = self.blocks[0](functional.max_pool2d(self.conv(x[t]), 2), states[0])
            spk, states[1] = self.blocks[1](self.pool(functional.relu(self.late(spk))), states[1])
            spk, states[2] = self.blocks[2](self.fc(spk.view(x.shape[1], -1)), states[2])
            spikes.append(spk)
        return torch.stack(spikes, 1)


class Sums(Layers):
    """A residual connection with a parameter; sums over the steps, and the last states."""

    def __init__(self):
        super().__init__()
        self.late = loud(nn.Linear(6, 6))
        self.bias = nn.Parameter(torch.full((6,), 0.1))

    def forward(self, x):
        mem1, mem2, count, first = self.lif1.reset_mem(), self.lif2.reset_mem(), 0, None
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(torch.flatten(x, 1)), mem1)
            late = self.late(spk1) * 0.5 + spk1 - self.bias
            spk2, mem2 = self.lif2(self.fc2(late), mem2)
            count += spk2
            first = mem2 if first is None else first + mem2
        return {"rate": torch.sigmoid(count / STEPS), "sum": first, "last": mem2}


def given_steps(self, x):
    mem1, mem2, last = self.lif1.init_leaky(), self.lif2.init_leaky(), []
    for x_t in x:
        spk1, mem1 = self.lif1(self.fc1(x_t), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1) + self.fc2.bias, mem2)
        last.append(spk2)
    return torch.stack(last), mem1


class InputSteps(Layers):
    """Steps of the input, time first."""

    forward = given_steps


class BatchFirst(Layers):
    """Steps of the input, time second; a current that is the same at every step."""

    def forward(self, x):
        mem1, mem2, total = self.lif1.init_leaky(), self.lif2.init_leaky(), 0.0
        for t in range(x.shape[1]):
            spk1, mem1 = self.lif1(self.fc1(x[:, t]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1 + self.fc1(x[:, 0]).relu()), mem2)
            total = total + spk2
        return total / x.size(1)


class Cells(nn.Module):
    """Loop of Norse's tutorials: cells begin without a state; the last state is also returned."""

    def __init__(self):
        super().__init__()
        rates = {"tau_mem_inv": 100.0, "v_leak": 0.0, "v_th": 1.0, "v_reset": 0.0, "dt": 0.001}
        self.fc, self.box = (loud(nn.Linear(4, 6), 9.0), norse("LIFBoxCell", "norse.torch.module.lif_box")(rates))
        self.late = loud(nn.Linear(6, 3), 9.0)
        self.lif = norse("LIFCell", "norse.torch.module.lif")({"tau_syn_inv": 200.0, **rates})

    def forward(self, x):
        steps, *_ = x.shape[0], x.shape[1]
        first = last = None
        spikes = []
        for t in range(steps):
            z = self.fc(x[t, :, :].view(-1, 4))
            z, first = self.box(z) if first is None else self.box(z, first)
            z, last = self.lif(self.late(z), last)
            spikes += [z]
        return torch.stack(spikes), last.v, first.v


X = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) * 2
NETWORKS = {
    "layers": (Layers, X),
    "images": (Images, torch.rand(STEPS, 5, 1, 8, 8, generator=torch.Generator().manual_seed(1))),
    "sums": (Sums, X.view(5, 2, 2)),
    "given": (InputSteps, torch.rand(9, 5, 4, generator=torch.Generator().manual_seed(1)) * 2),
    "batch first": (BatchFirst, torch.rand(5, 13, 4, generator=torch.Generator().manual_seed(1)) * 2),
    "cells": (Cells, torch.rand(9, 5, 4, generator=torch.Generator().manual_seed(1)) * 2),
}


def make(name):
    torch.manual_seed(0)
    network, x = NETWORKS[name]
    return network().float(), x


def results(net, x):
    """Return the outputs of ``net`` for ``x``, and the gradients of ``x`` and the parameters."""
    x = x.clone().requires_grad_()
    out = net(x)
    outputs = list(out.values() if isinstance(out, dict) else out if isinstance(out, tuple) else [out])
    loss = sum((y * torch.arange(y.numel(), dtype=y.dtype).sin().view(y.shape)).sum() for y in outputs)
    return outputs, torch.autograd.grad(loss, [x, *net.parameters()])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_copy_gives_what_the_loop_gives_in_one_call_a_layer(name):
    net, x = make(name)
    loop, fast = sn.replace(net, sequences=False), sn.replace(net, sequences=True)
    keys = list(loop.state_dict())
    calls, handles = [], []
    for part, module in fast.named_modules():
        if isinstance(module, sn.state.Stateful):
            hook = lambda *a, part=part: calls.append(part)  # noqa: E731
            handles.append(module.register_forward_hook(hook))
    (got, grads), (want, wanted) = results(fast, x), results(loop, x)
    assert len(calls) == len(set(calls)) == (3 if name == "images" else 2)
    for handle in handles:
        handle.remove()
    assert want[0].any()
    for a, b in zip((*got, *grads), (*want, *wanted), strict=True):
        same(a, b)
    assert list(fast.state_dict()) == keys
    fast.load_state_dict(loop.state_dict())
    # Each call starts at rest, also for a deepcopy and an accelerated copy.
    accelerated = sn.accelerate(fast)
    assert list(accelerated.state_dict()) == keys
    # Optimizers group parameters by their names.
    for one in (loop, fast, accelerated):
        for once in (True, False):
            names = [[n for n, _ in m.named_parameters(remove_duplicate=once)] for m in (one, net)]
            assert names[0] == names[1]
        assert {n for n, _ in one.named_buffers()} == {n for n, _ in loop.named_buffers()}
        for part, parameter in one.named_parameters():
            assert one.get_parameter(part) is parameter
    file = io.BytesIO()
    torch.save(accelerated, file)
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    for one in (fast, fast, copy.deepcopy(fast), accelerated, loaded):
        for a, b in zip(results(one, x)[0], want):
            same(a, b)
    assert not any(isinstance(module, sn.Time) for module in net.modules())
    if name in ("given", "batch first", "cells"):  # another number of steps
        x = x[:4, :4]
        for a, b in zip(results(fast, x)[0], results(loop, x)[0]):
            same(a, b)


def test_another_batch_and_training():
    net, _ = make("layers")
    fast, loop = sn.replace(net.eval(), sequences=True), sn.replace(net, sequences=False)
    assert not fast.training
    x = torch.rand(2, 4) * 2
    for a, b in zip(results(fast, x)[0], results(loop, x)[0]):
        same(a, b)


def of_the_size(self, x):
    share, mem = torch.full((4,), 1 / operator.index(x.size(0))), self.lif1.init_leaky()
    spikes = []
    for x_t in x:
        spk, mem = self.lif1(self.fc1(x_t * share), mem)
        spikes.append(spk)
    return torch.stack(spikes)


def comes_back(self, x):
    mem1, mem2, spikes, before = self.lif1.init_leaky(), self.lif2.init_leaky(), [], 0
    for _ in range(STEPS):
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        before, mem2 = self.lif2(self.fc2(spk1) + before, mem2)
        spikes.append(before)
    return torch.stack(spikes)


def through_layers(self, x):
    mem1, mem2, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
    for _ in range(STEPS):
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        x = self.back(spk2)
        spikes.append(spk2)
    return torch.stack(spikes)


def not_from_rest(self, x):
    spk, _ = self.lif1(self.fc1(x), torch.ones(5, 6))
    spk2, _ = self.lif1(self.fc1(x), torch.ones(5, 6))
    return torch.stack([spk, spk2])


REFUSED = {
    "steps by values": (
        lambda s, x: [s.lif1(s.fc1(x), s.lif1.init_leaky())[0] for _ in range(x[0])],
        "the forward of Changed cannot be followed: TypeError: the number of steps is neither a constant nor",
    ),
    "a tensor of the size of the input": (
        of_the_size, "at _tensor_constant0 .*: with 40 steps it is another than with 5",
    ),
    "steps in another order": (
        loop(lambda s, x, t, m: s.lif1(s.fc1(x[STEPS - 1 - t]), m)), "neither a step of what is given",
    ),
    "one step": (loop(lambda s, x, t, m: s.lif1(s.fc1(x), m), steps=1), "has no loop over steps: a call is a step"),
    "other steps": (
        loop(lambda s, x, t, a, b: (s.lif1(s.fc1(x), a)[0], s.lif1(s.fc1(x), a)[1], s.lif2(s.fc2(x), b)[1]), 2),
        "calls its neurons 6, 12 times",
    ),
    "a constant that changes": (loop(lambda s, x, t, m: s.lif1(s.fc1(x * t), m)), "at mul.*: its arguments differ"),
    "another function": (
        loop(lambda s, x, t, m: s.lif1(s.fc1(torch.cumsum(x, 0)), m)), "at cumsum.*: there is no form of it for all",
    ),
    "a layer of its own": (loop(lambda s, x, t, m: s.lif1(s.cell(s.fc1(x)), m)), "at cell: a Softmax may depend"),
    "not handed on": (loop(lambda s, x, t, m: (s.lif1(s.fc1(x), m)[0], m)), "at lif1: it does not go on"),
    "a membrane that is changed": (
        loop(lambda s, x, t, m: s.lif1(s.fc1(x), m * 0.5)), "at lif1: it does not go on from the states",
    ),
    "not from rest": (not_from_rest, "at lif1: .*does not begin at rest"),
    "spikes that come back": (comes_back, "at add in forward: its arguments differ"),
    "through other layers": (through_layers, "steps do not all do the same|come back"),
    "not every step": (
        lambda self, x: torch.stack(list(loop(lambda s, x, t, m: s.lif1(s.fc1(x), m))(self, x))[:2]),
        "cannot be followed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_apart_is_refused(name):
    forward, words = REFUSED[name]
    net = changed(forward, cell=nn.Softmax(0), back=nn.Linear(3, 4)).float()
    with pytest.raises(ValueError, match=f"replace: .*{words}"):
        sn.replace(net, sequences=True)


def assert_equal_calls(forward, x, **layers):
    """Assert that loop and copy have equal outputs and gradients in two successive calls; return both."""
    net = changed(forward, **layers).float()
    slow, fast = sn.replace(net, sequences=False), sn.replace(net, sequences=True)
    for inputs in (x, x.flip(0)):
        (got, grads), (want, wanted) = results(fast, inputs), results(slow, inputs)
        assert want[0].any()
        for a, b in zip((*got, *grads), (*want, *wanted), strict=True):
            same(a, b)
        sn.detach(fast), sn.detach(slow)
    return fast, slow


def without_states(self, x):
    spikes = []
    for x_t in x:
        spk, mem = self.lif1(self.fc1(x_t))
        spikes.append(spk)
    return torch.stack(spikes), mem, self.fc2(spk)


def reset_first(self, x):
    self.lif1.reset_mem()
    return without_states(self, x)


def reset_by_the_package(self, x):
    sn.reset(self)
    return without_states(self, x)


INPUTS = torch.rand(7, 5, 4, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize("forward", [without_states, reset_first, reset_by_the_package])
def test_neurons_that_are_called_without_their_states(forward):
    """Recent versions of snnTorch do so. Without a reset neurons continue from the last call."""
    fast, slow = assert_equal_calls(forward, INPUTS)
    assert fast.lif1.stateful is (forward is without_states)
    same(fast.lif1.mem, slow.lif1.mem)


@pytest.mark.parametrize("output", [False, True])
def test_neurons_with_hidden_states(output):
    def forward(self, x):
        spikes = []
        for x_t in x:
            spk = self.lif1(self.fc1(x_t))
            spk = self.lif2(self.fc2(spk[0] if output else spk))
            spikes.append(spk)
        return torch.stack(spikes), spk

    hidden = neuron()
    hidden.init_hidden, hidden.output = True, output
    last = neuron()
    last.init_hidden = True
    assert_equal_calls(forward, INPUTS, lif1=hidden, lif2=last)


HELD = {
    "between its steps": (
        lambda s, t: s.lif1.reset_mem() if t == 3 else None, "at lif1: it is reset between its steps",
    ),
    "after its steps": (
        lambda s, t: s.lif1.reset_mem() if t == 4 else None, "at lif1: it is reset after its steps, and not before",
    ),
    "a state that is set": (lambda s, t: setattr(s.lif1, "mem", None), "it keeps mem in lif1"),
    "a state that is read": (lambda s, t: s.fc2(s.lif1.mem), "cannot be followed"),
    "a threshold that is set": (lambda s, t: setattr(s.lif1, "threshold", torch.ones(())), "it keeps threshold in"),
}  # fmt: skip


@pytest.mark.parametrize("name", HELD)
def test_states_that_forward_touches_are_refused(name):
    touch, words = HELD[name]

    def forward(self, x):
        spikes = []
        for t in range(4):
            touch(self, t)
            spikes.append(self.lif1(self.fc1(x[t]))[0])
        touch(self, 4)
        return torch.stack(spikes)

    with pytest.raises(ValueError, match=words):
        sn.replace(changed(forward).float(), sequences=True)


@pytest.mark.parametrize("index", [lambda t: t, lambda t: (t, slice(None), slice(None))])
def test_a_tensor_that_is_filled_step_by_step(index):
    """Norse's models do so."""

    def forward(self, x):
        mem, late = self.lif1.init_leaky(), torch.zeros(x.shape[1], x.shape[0], 6)
        spikes = torch.zeros(x.shape[0], x.shape[1], 6, dtype=torch.float64)
        for t in range(x.shape[0]):
            spk, mem = self.lif1(self.fc1(x[t]), mem)
            spikes[index(t)] = spk
            late[:, t] = mem
        return spikes * 2, late, self.fc2(spk)

    assert_equal_calls(forward, INPUTS)


def test_batch_normalisation_takes_the_statistics_of_each_step():
    def forward(self, x):
        mem, spikes = self.lif1.init_leaky(), []
        for x_t in x:
            spk, mem = self.lif1(self.norm(self.fc1(x_t)), mem)
            spikes.append(spk)
        return torch.stack(spikes), self.fc2(spk)

    norm = nn.BatchNorm1d(6)
    nn.init.constant_(norm.weight, 3.0)
    fast, slow = assert_equal_calls(forward, INPUTS, norm=norm)
    same(fast.norm.running_var, slow.norm.running_var)
    for a, b in zip(fast.eval()(INPUTS), slow.eval()(INPUTS)):
        same(a, b)


def test_steps_in_the_last_dimension():
    def forward(self, x):
        mem, spikes = self.lif1.init_leaky(), []
        for t in range(x.shape[-1]):
            spk, mem = self.lif1(self.fc1(x[..., t]), mem)
            spikes.append(spk)
        return torch.stack(spikes, -1), self.fc2(spk)

    assert_equal_calls(forward, INPUTS.permute(1, 2, 0))


def test_a_loop_is_taken_apart_by_default_and_else_its_line_is_told():
    net = Layers().float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = sn.replace(net)
        assert fast.lif1.time_dim == 0
        slow = sn.replace(changed(comes_back).float(), sequences=False)
    words = r"at add in forward: its arguments differ.*test_replace_loops.py:\d+: before, mem2 = .*sequences=False"
    with pytest.warns(UserWarning, match=words) as caught:
        other = sn.replace(changed(comes_back).float())
    assert [warning.filename for warning in caught] == [__file__]
    assert other.lif1.time_dim is None
    same(other(X), slow(X))
    net.lif1.register_forward_hook(lambda *a: None)
    with pytest.warns(UserWarning, match="lif1 has hooks, which would see all steps"):
        assert sn.replace(net).lif1.time_dim is None


def test_what_the_copy_has_lost_is_told():
    class Classifier(Layers):
        def classify(self, x):
            return self(x)[0].sum(0)

    net = Classifier().float()
    net.num_steps = 7
    fast = sn.replace(net)
    for one in (fast, copy.deepcopy(fast)):
        with pytest.raises(AttributeError, match=r"the copy has no classify; replace\(net, sequences=False\)"):
            one.classify(X)
        with pytest.warns(UserWarning, match="read its forward once, and num_steps as it was then"):
            one.num_steps = 9
        one.eval().train()
        with pytest.raises(AttributeError, match="has no attribute 'other'"):
            one.other  # noqa: B018
    assert sn.replace(net, sequences=False).classify(X).shape == (5, 3)


def test_a_size_that_is_asked_for_need_not_be_that_of_the_steps():
    """The input has five steps, the number to which loops are unrolled, and the batch size is also read."""
    assert UNROLLED == 5

    def forward(self, x):
        operator.index(x.size(0))
        return loop(lambda s, x, t, m: s.lif1(s.fc1(x), m), steps=UNROLLED)(self, x)

    net = changed(forward).float()
    same(sn.replace(net, sequences=True)(X[:3]), sn.replace(net, sequences=False)(X[:3]))


def test_tensors_that_forward_makes_move_with_the_network():
    def forward(self, x):
        share = torch.full((4,), 0.5)
        return loop(lambda s, x, t, m: s.lif1(s.fc1(x * share), m))(self, x)

    net = changed(forward).float()
    fast = sn.replace(net, sequences=True)
    same(fast(X), sn.replace(net, sequences=False)(X))
    assert list(fast.state_dict()) == list(sn.replace(net, sequences=False).state_dict())
    assert fast.double()(X.double()).dtype == torch.float64
    assert {tensor.dtype for tensor in fast.buffers()} == {torch.float64}


def test_later_steps_of_the_input_are_left_out():
    x = torch.rand(STEPS + 3, 5, 4) * 2
    net = changed(loop(lambda s, x, t, m: s.lif1(s.fc1(x[t]), m))).float()
    fast = sn.replace(net, sequences=True)
    same(fast(x), sn.replace(net, sequences=False)(x))
    with pytest.raises(IndexError, match="the loop takes 6 steps of dimension 0, which has 5"):
        fast(x[: STEPS - 1])


STEP = {
    "[5, 6] next to [2, 1, 6]": lambda s, x, t: s.fc1(x[t]) + s.extra,
    "[2, 1, 6] next to [5, 6]": lambda s, x, t: s.extra * s.fc1(x[t]),
    "[5, 6] next to [1, 5, 6]": lambda s, x, t: s.fc1(x[t]) + s.fc1(x[t]).view(1, 5, 6),
    "to another": lambda s, x, t: s.fc1(x[t]).to(s.extra).type_as(s.extra),
    "view(1, -1)": lambda s, x, t: s.fc1(x[t]).view(1, -1),
    "view(5, 2, 3)": lambda s, x, t: s.fc1(x[t]).view(5, 2, -1),
    "flatten": lambda s, x, t: s.fc1(x[t]).view(5, 2, 3).flatten(-2),
    "flatten all": lambda s, x, t: torch.flatten(s.fc1(x[t])),
}


@pytest.mark.parametrize("name", STEP)
def test_shapes_of_a_step(name):
    """Broadcasting and views treat every step in the same way."""

    def forward(self, x):
        mem, spikes = self.lif1.init_leaky(), []
        for t in range(7):
            spk, mem = self.lif1(STEP[name](self, x, t), mem)
            spikes.append(spk)
        return torch.stack(spikes), self.extra.sum() * self.fc2.weight.sum() + self.fc2.bias.sum()

    assert_equal_calls(forward, INPUTS, extra=nn.Parameter(torch.ones(2, 1, 6)))


def test_images_without_a_batch():
    def forward(self, x):
        mem, spikes = self.lif1.init_leaky(), []
        for x_t in x:
            spk, mem = self.lif1(functional.max_pool2d(self.conv(x_t), 2), mem)
            spikes.append(spk)
        return torch.stack(
            spikes
        ), self.fc1.weight.sum() + self.fc2.weight.sum() + self.fc1.bias.sum() + self.fc2.bias.sum()

    assert_equal_calls(forward, torch.rand(7, 2, 6, 6), conv=loud(nn.Conv2d(2, 3, 3)))


IN_PLACE = {
    "a function": (
        loop(lambda s, x, t, m: s.lif1(functional.relu(s.fc1(x), inplace=True), m)),
        "at relu.*: it changes its input in place",
    ),
    "a layer": (
        loop(lambda s, x, t, m: in_place(s, s.fc1(x), m)), "at relu: it changes in place what something else reads",
    ),
}  # fmt: skip


def in_place(self, current, mem):
    return self.lif1(self.relu(current) + current, mem)


@pytest.mark.parametrize("name", IN_PLACE)
def test_changes_in_place_are_refused(name):
    forward, words = IN_PLACE[name]
    with pytest.raises(ValueError, match=words):
        sn.replace(changed(forward, relu=nn.ReLU(inplace=True)).float(), sequences=True)
