"""e-prop: gradients compared with backpropagation through time and hand calculation, in parts; errors."""

import copy

import pytest
import torch
from torch import nn

import snnfast
from snnfast.learning import EProp
from snnfast.nn import ALIF, LI, LIF, AdLIF, CubaLIF, Recurrent, SpikeLinear, Time

NEURONS = {
    "lif": lambda: LIF(5.0, surrogate="sigmoid"),
    "learned lif": lambda: LIF(nn.Parameter(torch.full((6,), 4.0)), v_reset=None),
    "refractory": lambda: LIF(3.0, refractory=2, decay_input=False),
    "alif": lambda: ALIF(5.0),
    "adlif": lambda: AdLIF(6),
    "cuba": lambda: CubaLIF(),
}


@pytest.fixture(autouse=True)
def float64():
    torch.manual_seed(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def network(neuron, recurrent=True, readout=True):
    cell = Recurrent(neuron, 6, self_connections=False) if recurrent else neuron
    first = nn.Linear(4, 6)
    with torch.no_grad():
        first.weight.mul_(8)
    tail = [LI(4.0)] if readout else []
    return nn.Sequential(Time(first), cell, Time(SpikeLinear(6, 3)), *tail)


def squares(y, target):
    return (y - target).square().sum()


def through_time(net, x, target):
    """Return the gradients of backpropagation through time without those through recurrent spikes, step by step."""
    net = copy.deepcopy(net)
    first, cell, *tail = net
    neuron = cell.neuron if isinstance(cell, Recurrent) else cell
    neuron.stateful = True
    spikes = []
    for step in x:
        current = first(step[None])
        if isinstance(cell, Recurrent) and spikes:
            current = current + spikes[-1].detach() @ cell.connected(cell.weight).T
        spikes.append(neuron(current))
    y = nn.Sequential(*tail)(torch.cat(spikes))
    squares(y, target).backward()
    return y.detach(), [p.grad for p in net.parameters()], torch.cat(spikes).detach()


def gradients(net, x, target, parts, **options):
    net = copy.deepcopy(net)
    learn = EProp(net, squares, **options)
    y = [learn.step(*part) for part in zip(x.split(parts), target.split(parts))]
    return torch.cat(y), [p.grad for p in net.parameters()]


@pytest.mark.parametrize("parts", [1, 7, 40])
@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("name", NEURONS)
def test_gradients_are_those_through_time_but_for_recurrent_spikes(name, recurrent, parts):
    net = network(NEURONS[name](), recurrent)
    x, target = torch.rand(40, 2, 4), torch.rand(40, 2, 3)
    y, want, spikes = through_time(net, x, target)
    assert 0.005 < spikes.mean() < 0.9
    got_y, got = gradients(net, x, target, parts)
    torch.testing.assert_close(got_y, y, rtol=1e-12, atol=1e-12)
    for a, b in zip(got, want, strict=True):
        assert b is None or b.isfinite().all()
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None and a is not None else b, rtol=1e-11, atol=1e-12)


def test_gradients_without_a_filter_at_the_readout():
    net = network(NEURONS["adlif"](), readout=False)
    x, target = torch.rand(30, 3, 4), torch.rand(30, 3, 3)
    y, want, _ = through_time(net, x, target)
    for parts in (1, 9):
        got_y, got = gradients(net, x, target, parts)
        torch.testing.assert_close(got_y, y, rtol=1e-12, atol=1e-12)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_a_neuron_of_your_own():
    @snnfast.neuron
    def leaky(fire, x, v, q, *, decay=0.7, v_threshold=1.0):
        h = decay * v + torch.tanh(x) - 0.1 * q
        s, h, v = fire(h, v_threshold)
        return s, v, 0.5 * q + h

    net = network(leaky.layer(decay=nn.Parameter(torch.full((6,), 0.7))), recurrent=False)
    x, target = torch.rand(20, 2, 4), torch.rand(20, 2, 3)
    _, want, spikes = through_time(net, x, target)
    assert spikes.any()
    _, got = gradients(net, x, target, 6)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_two_steps_worked_by_hand():
    # h[0] = 2 w, h[1] = v[0] / 2 + 2 w; slope 1 / 4 each (sigmoid at its middle); detached soft reset.
    neuron = LIF(decay=0.5, decay_input=False, v_threshold=2.0, v_reset=None, detach_reset=True, surrogate="rectangle")
    net = nn.Sequential(nn.Linear(1, 1, bias=False), neuron, nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(0.9)
        net[2].weight.fill_(3.0)
    surrogate = snnfast.surrogate.resolve("rectangle")
    slope = [torch.func.grad(surrogate)(torch.tensor(h - 2.0)).item() for h in (1.8, 2.7)]
    learn = EProp(net, lambda y, target: (y * target).sum())
    x = torch.full((2, 1, 1), 2.0)
    y = learn.step(x, torch.tensor([10.0, 1.0]).view(2, 1, 1))
    assert y.flatten().tolist() == [0, 3]
    # eps[0] = 2, eps[1] = 1/2 eps[0] + 2 = 3
    want = 3 * (10 * slope[0] * 2 + 1 * slope[1] * 3)
    assert net[0].weight.grad.item() == pytest.approx(want, rel=1e-12)
    assert net[2].weight.grad.item() == 1.0
    assert slope[0] > 0


def test_random_feedback_reaches_every_layer():
    def cell():
        return Recurrent(LIF(3.0, decay_input=False), 6)

    net = nn.Sequential(Time(nn.Linear(4, 6)), cell(), Time(SpikeLinear(6, 6)), cell(), nn.Linear(6, 3), LI(4.0))
    x, target = torch.rand(30, 2, 4) * 4, torch.rand(30, 2, 3)
    with pytest.raises(ValueError, match="several hidden layers need feedback='random'"):
        EProp(net, squares)
    learn = EProp(net, squares, feedback="random")
    assert [tuple(b.shape) for b in learn.feedback] == [(3, 6), (3, 6)]
    alone = copy.deepcopy(net[2:]), EProp(copy.deepcopy(net[2:]), squares)
    learn.feedback[1] = net[4].weight.detach().clone()
    learn.step(x, target)
    with torch.no_grad():
        seen = net[1](net[0](x))
    alone = EProp(net2 := copy.deepcopy(net[2:]), squares)
    net2.zero_grad()
    alone.step(seen, target)
    # With the readout's weights as feedback the last layer learns as a single layer does.
    for a, b in zip(net[2:].parameters(), net2.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)
    assert all(p.grad.any() for p in net[:2].parameters())


def test_state_goes_on_and_reset_forgets():
    net = network(NEURONS["adlif"]())
    x, target = torch.rand(20, 2, 4), torch.rand(20, 2, 3)
    learn = EProp(net, squares)
    learn.step(x[:10], target[:10])
    saved = copy.deepcopy(learn.state_dict())
    net.zero_grad()
    y = learn.step(x[10:], target[10:])
    want = [p.grad for p in net.parameters()]
    resumed = EProp(net, squares)
    resumed.load_state_dict(saved)
    net.zero_grad()
    torch.testing.assert_close(resumed.step(x[10:], target[10:]), y, rtol=0, atol=0)
    for p, grad in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=0, atol=0)
    first = EProp(net, squares).step(x[:10], target[:10])
    resumed.reset()
    torch.testing.assert_close(resumed.step(x[:10], target[:10]), first, rtol=0, atol=0)
    resumed.reset()
    assert resumed.step(x[:10, :1], target[:10, :1]).shape == (10, 1, 3)  # another batch


def test_what_is_kept_does_not_grow_with_the_sequence():
    net = network(NEURONS["alif"]())
    learn = EProp(net, squares)

    def size(value):
        if isinstance(value, torch.Tensor):
            return value.numel()
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return sum(map(size, values))

    sizes = set()
    for _ in range(4):
        learn.step(torch.rand(25, 2, 4), torch.rand(25, 2, 3))
        sizes.add(size(learn.state_dict()))
    assert len(sizes) == 1


def test_weights_learn_while_the_sequence_runs():
    net = network(NEURONS["alif"]())
    learn = EProp(net, lambda y, target: (y - target).square().mean())
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    phase = torch.arange(800.0).view(-1, 1, 1) / 20 + torch.rand(4, 1)
    x = (1 + torch.sin(phase + torch.arange(4.0))) / 2
    target = torch.sin(phase + torch.arange(3.0))
    errors = []
    for part, wanted in zip(x.split(10), target.split(10)):
        optimizer.zero_grad()
        y = learn.step(part, wanted)
        optimizer.step()
        errors.append((y - wanted).square().mean().item())
    assert sum(errors[-12:]) < 0.6 * sum(errors[:12])  # a wave each


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: LIF(), TypeError, "net must be an nn.Sequential, got LIF"),
        (lambda: nn.Sequential(nn.Linear(2, 2), LIF()), ValueError, "in turn, .*, got Linear, LIF"),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 1, 1), LIF(), nn.Linear(2, 2)),
            TypeError,
            "linear layers before neurons and at its end, got Conv2d",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)),
            TypeError,
            "followed by neurons that fire, got ReLU",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), LIF(), nn.Linear(2, 2)),
            ValueError,
            "after 3 neurons must take as many inputs, got 2",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), Recurrent(LIF(), 4), nn.Linear(3, 2)),
            ValueError,
            "Recurrent has 4 neurons after 3 outputs",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), Recurrent(LIF(), 3, max_delay=2.0), nn.Linear(3, 2)),
            ValueError,
            "must have no delays",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), LIF(), nn.Linear(3, 2), LI(torch.ones(2) * 3)),
            ValueError,
            r"tau of LI must be a number, got a tensor \[2\]",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), LIF(), nn.Linear(3, 2), LI(v_rest=1.0)),
            ValueError,
            "v_rest of LI must be 0, got 1",
        ),
    ],
)
def test_other_networks_are_refused(make, kind, message):
    with pytest.raises(kind, match=f"^EProp: .*{message}"):
        EProp(make(), squares)


def test_bad_arguments():
    net = network(LIF())
    with pytest.raises(ValueError, match="EProp: feedback must be"):
        EProp(net, squares, feedback="none")
    learn = EProp(net, lambda y, target: y)
    for x in (torch.rand(3, 2, 5), torch.rand(3, 4), torch.rand(0, 2, 4)):
        with pytest.raises(ValueError, match=r"EProp: x must have shape \[K, B, 4\]"):
            learn.step(x, x)
    with pytest.raises(ValueError, match="EProp: loss must give a scalar"):
        learn.step(torch.rand(3, 2, 4), torch.rand(3, 2, 3))
    with pytest.raises(ValueError, match="EProp: the state must be of 1 hidden layers, got 0"):
        learn.load_state_dict({"layers": []})
