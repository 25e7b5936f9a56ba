"""STDP with custom rules, convolutions, signed rates, recorded spikes and PyTorch's weights."""

import copy

import pytest
import torch
from torch import nn

from snnfast import plasticity
from snnfast.encoder import from_times, to_times
from snnfast.learning import STDP
from snnfast.nn import IF, Time


def spikes(*shape, seed=0, rate=0.2):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).double()


def linear(seed=0):
    torch.manual_seed(seed)
    layer = nn.Linear(12, 7, bias=False, dtype=torch.float64)
    return nn.init.uniform_(layer.weight, 0.2, 0.8) is None or layer


def pair(s):
    return 0.02 * s.s_post * s.x_pre - 0.01 * s.s_pre * s.x_post


@pytest.mark.parametrize("trace", ["nearest", "all"])
@pytest.mark.parametrize("how", [{}, {"reduction": "mean"}, {"update": "sequence"}, {"norm": 3.0}])
def test_an_own_rule_is_the_rule_of_the_package_that_it_writes_down(trace, how):
    pre, post = spikes(20, 3, 12), spikes(20, 3, 7, seed=1)
    times = {"tau_pre": 10.0, "tau_post": 30.0, "trace": trace}
    known, written = linear(), linear()
    learners = (
        STDP(known, plasticity.pair(0.01, 0.02, **times), **how),
        STDP(written, plasticity.OwnRule(pair, **times), **how),
    )
    for learner in learners:
        learner.run(pre[:12], post[:12])
        learner.run(pre[12:], post[12:])
    torch.testing.assert_close(written.weight, known.weight, rtol=1e-12, atol=1e-12)
    assert (written.weight - linear().weight).abs().max() > 0.01


def test_an_own_rule_takes_rewards_and_any_formula():
    layer = linear()
    before = layer.weight.detach().clone()

    def change(s):
        return s.reward * s.s_post * (s.x_pre**2 - 0.5 * s.w)

    learner = STDP(layer, plasticity.OwnRule(change, w_min=-1.0))
    pre, post = torch.zeros(1, 1, 12).double(), torch.zeros(1, 1, 7).double()
    pre[0, 0, 2] = post[0, 0, 3] = 1
    learner.run(pre, post, reward=0.1)
    wanted = before.clone()
    wanted[3] += 0.1 * ((torch.arange(12) == 2).double() - 0.5 * before[3])
    torch.testing.assert_close(layer.weight.detach(), wanted)
    learner.step(pre[0], post[0])  # without a reward nothing changes
    torch.testing.assert_close(layer.weight.detach(), wanted)


def test_negative_rates_are_anti_hebbian():
    pre, post = spikes(20, 3, 12), spikes(20, 3, 7, seed=1)
    changes = []
    for sign in (1, -1):
        layer = linear()
        STDP(layer, plasticity.pair(sign * 1e-4, sign * 1e-3)).run(pre, post)
        changes.append(layer.weight.detach() - linear().weight.detach())
    torch.testing.assert_close(changes[1], -changes[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "kernel_size": (2, 3)}])
@pytest.mark.parametrize("own_rule", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_a_convolution_learns_at_every_place(options, own_rule, last):
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 5, **{"kernel_size": 3, "bias": False, **options}).double()
    nn.init.uniform_(conv.weight, 0.2, 0.8)
    if last:
        conv = conv.to(memory_format=torch.channels_last)
    pre = spikes(6, 2, 2, 7, 8)
    post = spikes(6, *conv(pre[0]).shape, seed=1, rate=0.05)
    rule = plasticity.OwnRule(pair) if own_rule else plasticity.pair(0.01, 0.02)
    expected = conv.weight.detach().clone()
    # By hand: each position is a dense layer of the pixels under it, all with the weights before the step.
    dense = nn.Linear(expected[0].numel(), 5, bias=False, dtype=torch.float64)
    patches = nn.functional.unfold(pre.flatten(0, 1), conv.kernel_size, conv.dilation, conv.padding, conv.stride)
    with torch.no_grad():
        dense.weight.copy_(expected.flatten(1))
    rows = patches.view(6, 2, -1, patches.shape[2]).transpose(2, 3).flatten(1, 2)
    STDP(dense, rule).run(rows, post.flatten(3).transpose(2, 3).flatten(1, 2))
    learner = STDP(conv, rule)
    learner.run(pre[:4], post[:4])
    learner.run(pre[4:], post[4:])
    torch.testing.assert_close(conv.weight.flatten(1), dense.weight, rtol=1e-12, atol=1e-12)
    assert (conv.weight - expected).abs().max() > 0.01


def test_a_convolution_learns_in_forward_passes():
    torch.manual_seed(0)
    conv, neurons = nn.Conv2d(1, 4, 3), IF()
    nn.init.uniform_(conv.weight, 0, 1)
    nn.init.zeros_(conv.bias)
    net = nn.Sequential(Time(conv), neurons)
    STDP(conv, plasticity.pair(), reduction="mean").listen(neurons)
    before, other = conv.weight.detach().clone(), copy.deepcopy(net).eval()
    net(spikes(5, 2, 1, 8, 8).float())
    assert not torch.equal(conv.weight, before)
    other(spikes(5, 2, 1, 8, 8).float())
    torch.testing.assert_close(other[0].layer.weight, before, rtol=0, atol=0)


def test_recorded_spikes_to_steps_and_back():
    t, unit, sample = [0.4, 2.0, 2.3, 7.9, 1.0], [0, 3, 3, 1, 2], [0, 0, 0, 0, 1]
    x = from_times(t, unit, sample, neurons=4, dt=0.5)
    assert x.shape == (16, 2, 4)
    assert x.sum() == 4  # two spikes of neuron 3 are in one step
    t, unit, sample = to_times(x, dt=0.5)
    assert t.tolist() == [0.0, 2.0, 7.5, 1.0]
    assert unit.tolist() == [0, 3, 1, 2]
    assert sample.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(from_times(t, unit, sample, neurons=4, dt=0.5), x)
    assert from_times([9.0, 1.0], [0, 1], neurons=2, num_steps=5).sum() == 1
    assert from_times([], [], neurons=3).shape == (0, 1, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([-1.0], [0]), ValueError, "t must be finite and at least 0, got -1"),
        (([1.0], [5]), ValueError, r"unit must lie in \[0, 3\], got values from 5"),
        (([1.0], [0.5]), TypeError, "unit must be integers, got torch.float32"),
        (([1.0, 2.0], [0]), ValueError, r"unit must have shape \[2\], one a spike, got \[1\]"),
        (([[1.0]], [0]), ValueError, r"t must have shape \[S\], got \[1, 1\]"),
    ],
)
def test_errors_of_recorded_spikes(arguments, error, message):
    with pytest.raises(error, match=f"from_times: {message}"):
        from_times(*arguments, neurons=4)


def test_errors_say_the_way_out():
    with pytest.raises(ValueError, match=r"nn\.init\.uniform_\(linear\.weight, 0, 1\), or give the rule.*w_min=-1"):
        STDP(nn.Linear(4, 3), plasticity.pair())
    STDP(nn.Linear(4, 3), plasticity.pair(w_min=-1.0))
    with pytest.raises(ValueError, match=r"must have groups=1.*got groups=2"):
        STDP(nn.Conv2d(2, 2, 3, groups=2), plasticity.pair(w_min=-1.0))
    with pytest.raises(TypeError, match=r"must be an nn\.Linear or nn\.Conv2d, got LSTM"):
        STDP(nn.LSTM(2, 2), plasticity.pair())
    with pytest.raises(TypeError, match="OwnRule: change must be a function, got int"):
        plasticity.OwnRule(3)
    with pytest.raises(ValueError, match="tau_pre must be positive, got 0"):
        plasticity.OwnRule(pair, tau_pre=0.0)
    pre, post = spikes(2, 3, 12), spikes(2, 3, 7)
    for change, error, message in (
        (lambda s: 3, TypeError, "must return a tensor, got int"),
        (lambda s: torch.zeros(2, 2), ValueError, r"broadcasts to \[3, 7, 12\], got \[2, 2\]"),
    ):
        layer = linear()
        with pytest.raises(error, match=f"OwnRule: change .*{message}"):
            STDP(layer, plasticity.OwnRule(change)).run(pre, post)
        torch.testing.assert_close(layer.weight, linear().weight, rtol=0, atol=0)
    conv = nn.Conv2d(1, 2, 3)
    with pytest.raises(ValueError, match=r"post must be the spikes behind the convolution.*36 places"):
        STDP(conv, plasticity.pair(w_min=-1.0)).run(torch.zeros(2, 1, 1, 8, 8), torch.zeros(2, 1, 2, 8, 8))
