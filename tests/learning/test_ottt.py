"""Online training through time: gradients compared with a loop and hand calculation, in parts; errors."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from snnfast.learning import OTTT
from snnfast.nn import IF, LI, LIF, AdLIF, Time


@pytest.fixture(autouse=True)
def float64():
    torch.manual_seed(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def squares(y, target):
    return (y - target).square().sum()


def gradients(net, x, target, parts):
    net = copy.deepcopy(net)
    learn = OTTT(net, squares)
    y = [learn.step(*part) for part in zip(x.split(parts), target.split(parts))]
    return torch.cat(y), [p.grad for p in net.parameters()]


SOFT = {"v_reset": None, "detach_reset": True}


@pytest.mark.parametrize("parts", [1, 7, 30])
@pytest.mark.parametrize(
    "make", [lambda: LIF(4.0, **SOFT), lambda: IF(**SOFT), lambda: LIF(decay=0.8, decay_input=False, **SOFT)]
)
def test_one_hidden_layer_has_the_gradient_through_time(make, parts):
    net = nn.Sequential(nn.Linear(4, 6), make(), Time(nn.Linear(6, 3)))
    with torch.no_grad():
        net[0].weight.mul_(3)
    x, target = torch.rand(30, 2, 4), torch.rand(30, 2, 3)
    whole = copy.deepcopy(net)
    y = whole(x)
    squares(y, target).backward()
    got_y, got = gradients(net, x, target, parts)
    torch.testing.assert_close(got_y, y.detach(), rtol=1e-12, atol=1e-12)
    for a, b in zip(got, whole.parameters(), strict=True):
        assert b.grad.any()
        torch.testing.assert_close(a, b.grad, rtol=1e-11, atol=1e-12)


def loop(net, x, target):
    """Return the gradients step by step: autograd within a step, and the input traces for the weights."""
    layers, traces, membranes, grads = list(net), {}, {}, {}
    for step, step_target in zip(x, target):
        s, used = step[None], {}
        for n, layer in enumerate(layers):
            if isinstance(layer, (LIF, IF, LI)):
                run = copy.deepcopy(layer)
                run.stateful, run.v = True, membranes.get(n)
                s = run(s)
                membranes[n] = run.v.detach()
            elif [*layer.parameters()]:
                inner = layer.layer if isinstance(layer, Time) else layer
                after = next((m for m in layers[n:] if isinstance(m, (LIF, IF, LI))), None)
                decay = 0.0 if after is None else 1.0 if isinstance(after, IF) else after.decay
                trace, trace_of_1 = traces.get(n, (0.0, 0.0))
                traces[n] = trace, trace_of_1 = decay * trace + s.detach(), decay * trace_of_1 + 1.0
                s = layer(s)
                used[n] = s, trace, trace_of_1, inner
                s.retain_grad()
            else:
                s = layer(s)
        squares(s, step_target[None]).backward()
        for n, (out, trace, trace_of_1, inner) in used.items():
            flat = trace.flatten(0, 1)
            weight = inner.weight.detach().clone().requires_grad_()
            by_trace = F.conv2d(flat, weight) if isinstance(inner, nn.Conv2d) else F.linear(flat, weight)
            by_trace.backward(out.grad.flatten(0, 1))
            bias = out.grad.flatten(0, 1).sum([d for d in range(out.dim() - 1) if d != 1]) * trace_of_1
            old = grads.get(n, (0.0, 0.0))
            grads[n] = old[0] + weight.grad, old[1] + bias
    return [g for n in sorted(grads) for g in grads[n]]


@pytest.mark.parametrize("parts", [1, 5, 12])
def test_deep_networks_follow_the_equation(parts):
    net = nn.Sequential(
        *(Time(nn.Conv2d(2, 3, 3)), LIF(2.0), Time(nn.AvgPool2d(2), nn.Flatten())),
        *(nn.Linear(12, 8), LIF(3.0, surrogate="sigmoid"), Time(nn.Linear(8, 3)), LI(4.0)),
    )
    with torch.no_grad():
        net[0].layer.weight.mul_(6)
        net[3].weight.mul_(12)
    x, target = torch.rand(12, 2, 2, 6, 6), torch.rand(12, 2, 3)
    assert net[:5](x).mean() > 0.02
    want = loop(copy.deepcopy(net), x, target)
    y, got = gradients(net, x, target, parts)
    torch.testing.assert_close(y, net(x).detach(), rtol=1e-12, atol=1e-12)
    for a, b in zip(got, want, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_two_steps_worked_by_hand():
    # u[0] = 1.8, no spike; u[1] = 0.9 + 1.8 = 2.7, a spike; traces 2 and 1/2 2 + 2 = 3.
    neuron = LIF(decay=0.5, decay_input=False, v_threshold=2.0, v_reset=None, surrogate="rectangle")
    net = nn.Sequential(nn.Linear(1, 1, bias=False), neuron, nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(0.9)
        net[2].weight.fill_(3.0)
    slope = [torch.func.grad(neuron.surrogate)(torch.tensor(u - 2.0)).item() for u in (1.8, 2.7)]
    learn = OTTT(net, lambda y, target: (y * target).sum())
    y = learn.step(torch.full((2, 1, 1), 2.0), torch.tensor([10.0, 1.0]).view(2, 1, 1))
    assert y.flatten().tolist() == [0, 3]
    want = 3 * (10 * slope[0] * 2 + 1 * slope[1] * 3)
    assert slope[0] > 0
    assert net[0].weight.grad.item() == pytest.approx(want, rel=1e-12)
    assert net[2].weight.grad.item() == 1.0


def test_state_goes_on_and_reset_forgets():
    net = nn.Sequential(nn.Linear(4, 6), LIF(2.0), nn.Linear(6, 3), LI(4.0))
    x, target = torch.rand(20, 2, 4) * 4, torch.rand(20, 2, 3)
    learn = OTTT(net, squares)
    first = learn.step(x[:10], target[:10])
    saved = copy.deepcopy(learn.state_dict())
    net.zero_grad()
    y = learn.step(x[10:], target[10:])
    want = [p.grad for p in net.parameters()]
    resumed = OTTT(net, squares)
    resumed.load_state_dict(saved)
    net.zero_grad()
    torch.testing.assert_close(resumed.step(x[10:], target[10:]), y, rtol=0, atol=0)
    for p, grad in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=0, atol=0)
    resumed.reset()
    torch.testing.assert_close(resumed.step(x[:10], target[:10]), first, rtol=0, atol=0)
    with pytest.raises(ValueError, match="OTTT: the state must be of 4 layers, got 1"):
        resumed.load_state_dict({"kept": [None]})


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: LIF(), TypeError, "net must be an nn.Sequential, got LIF"),
        (lambda: nn.Sequential(LIF()), ValueError, "must have layers with weights"),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
            ValueError,
            "neurons must follow all layers with weights but the last",
        ),
        (lambda: nn.Sequential(nn.Linear(2, 2), AdLIF()), TypeError, "got AdLIF"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU()), TypeError, "in Time, got ReLU"),
        (lambda: nn.Sequential(nn.Conv2d(1, 1, 1), LIF()), TypeError, "in Time, .*, got Conv2d"),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), LIF(torch.ones(2) * 3)),
            ValueError,
            r"tau of LIF must be a number, got a tensor \[2\]",
        ),
        (lambda: nn.Sequential(nn.Linear(2, 2), LIF(refractory=2)), ValueError, "no refractory"),
    ],
)
def test_other_networks_are_refused(make, kind, message):
    with pytest.raises(kind, match=f"^OTTT: .*{message}"):
        OTTT(make(), squares)


def test_a_linear_layer_takes_dimensions_between():
    """Six positions of a batch, and six outputs of a linear layer: its bias belongs to the outputs."""
    net = nn.Sequential(nn.Linear(4, 6), LIF(4.0, **SOFT), nn.Linear(6, 3))
    x, target = 3 * torch.rand(5, 2, 6, 4), torch.rand(5, 2, 6, 3)
    whole = copy.deepcopy(net)
    squares(whole(x), target).backward()
    _, got = gradients(net, x, target, 2)
    for a, b in zip(got, whole.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, rtol=1e-11, atol=1e-12)
    assert OTTT(net, squares).step(x[:, :, :0], target[:, :, :0]).shape == (5, 2, 0, 3)


def test_bad_arguments():
    learn = OTTT(nn.Sequential(nn.Linear(4, 6), LIF(), nn.Linear(6, 3)), lambda y, target: y)
    for x in (torch.rand(3, 4), torch.rand(0, 2, 4)):
        with pytest.raises(ValueError, match=r"OTTT: x must have shape \[K, B, ...\]"):
            learn.step(x, x)
    with pytest.raises(TypeError, match=r"OTTT: x must have dtype float\d\d, got torch\.float16"):
        learn.step(torch.rand(3, 2, 4).half(), torch.rand(3, 2, 3))
    with pytest.raises(ValueError, match="OTTT: loss must give a scalar"):
        learn.step(torch.rand(3, 2, 4), torch.rand(3, 2, 3))
