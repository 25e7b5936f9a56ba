"""STDP with custom rules, convolutions, signed rates, recorded spikes and PyTorch's weights."""

import copy

import pytest
import torch
from samples import assert_equal
from torch import nn

from snnfast import ops, plasticity
from snnfast.encoder import from_times, to_times
from snnfast.learning import STDP
from snnfast.nn import IF, Recurrent, Time


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


def voltage(s):
    return 0.02 * s.s_pre * s.v_post - 0.01 * s.s_post * s.u_pre


def test_signals_of_a_linear_layer_in_parts_and_steps():
    pre, post = spikes(8, 3, 12), spikes(8, 3, 7, seed=1)
    v_post, u_pre = spikes(8, 3, 7, seed=2) - 0.4, spikes(8, 3, 12, seed=3) - 0.4
    whole, parts = linear(), linear()
    STDP(whole, plasticity.OwnRule(voltage)).run(pre, post, v_post=v_post, u_pre=u_pre)
    learner = STDP(parts, plasticity.OwnRule(voltage))
    learner.run(pre[:7], post[:7], v_post=v_post[:7], u_pre=u_pre[:7])
    learner.step(pre[7], post[7], v_post=v_post[7], u_pre=u_pre[7])
    assert_equal(parts.weight, whole.weight)
    assert (whole.weight - linear().weight).abs().max() > 0.01
    with pytest.raises(ValueError, match=r"STDP: v_post of one step must have shape \[B, N\], got \[8, 3, 7\]"):
        learner.step(pre[7], post[7], v_post=v_post, u_pre=u_pre[7])
    with pytest.raises(AttributeError, match=r"OwnRule: change reads u_pre, but has w, .*, v_post; pass a signal"):
        learner.run(pre, post, v_post=v_post)
    with pytest.raises(ValueError, match="STDP: v_post must be finite"):
        learner.run(pre, post, v_post=v_post / 0, u_pre=u_pre)
    assert_equal(parts.weight, whole.weight)


def test_signals_of_a_convolution_are_those_of_its_places():
    conv, dense = nn.Conv2d(1, 2, 3, padding=1, bias=False, dtype=torch.float64), linear()
    nn.init.uniform_(conv.weight, 0.2, 0.8)
    dense.weight = nn.Parameter(conv.weight.detach().flatten(1).clone())
    pre, post = spikes(5, 1, 1, 4, 4), spikes(5, 1, 2, 4, 4, seed=1)
    v_post, u_pre = spikes(5, 1, 2, 4, 4, seed=2) - 0.4, spikes(5, 1, 1, 4, 4, seed=3) - 0.4
    learner = STDP(conv, plasticity.OwnRule(voltage))
    learner.run(pre, post, v_post=v_post, u_pre=u_pre)

    def before(x):
        return nn.functional.unfold(x[:, 0], 3, padding=1).transpose(1, 2)

    def after(x):
        return x[:, 0].flatten(2).transpose(1, 2)

    signals = {"v_post": after(v_post), "u_pre": before(u_pre)}
    STDP(dense, plasticity.OwnRule(voltage)).run(before(pre), after(post), **signals)
    assert_equal(conv.weight.flatten(1), dense.weight)
    with pytest.raises(ValueError, match=r"STDP: v_post must have shape \[5, 1, 2, 4, 4\], got \[5, 1, 1, 4, 4\]"):
        learner.run(pre, post, v_post=u_pre, u_pre=u_pre)


def test_a_membrane_is_no_spike_train():
    layer, pre = linear(), spikes(8, 3, 12)
    with pytest.raises(ValueError, match=r"post must be spikes, 0 or 1, got values from -0\.5 to 0\.5; .* as v_post="):
        STDP(layer, plasticity.pair()).run(pre, spikes(8, 3, 7, rate=0.5) - 0.5)
    assert_equal(layer.weight, linear().weight)


def recurrent(stateful=True, self_connections=True):
    torch.manual_seed(0)
    w = torch.rand(7, 7).double()
    w = w if self_connections else w.fill_diagonal_(0.0)
    return Recurrent(IF(stateful=stateful), 7, weight=w, self_connections=self_connections)


@pytest.mark.parametrize("stateful", [True, False])
def test_recurrent_weights_learn_from_the_spikes_that_arrive(stateful):
    """They are those of the step before; of a layer with a state, of the last step of the call before."""
    layer, rule = recurrent(stateful), plasticity.pair(0.01, 0.02)
    learner = STDP(layer, rule)
    handle = learner.listen(layer)
    w, state, arrived = layer.weight.detach().clone(), None, torch.zeros(1, 3, 7).double()
    for part in torch.randn(2, 10, 3, 7, generator=torch.Generator().manual_seed(1)).double() + 0.3:
        out = layer(part).detach()
        pre = torch.cat((arrived, out[:-1]))
        state = ops.stdp_(w, pre, out, rule=rule, state=state)
        assert_equal(layer.weight.detach(), w)
        arrived = out[-1:] if stateful else torch.zeros_like(out[-1:])
    assert (w - recurrent().weight).abs().max() > 0.01
    handle.remove()
    learner.run(pre, out)
    ops.stdp_(w, pre, out, rule=rule, state=state)
    assert_equal(layer.weight.detach(), w)


@pytest.mark.parametrize("norm", [None, 2.0])
def test_without_self_connections_the_diagonal_stays_zero(norm):
    rule = plasticity.reward_modulated(plasticity.pair(-0.01, 0.05))
    layer = recurrent(self_connections=False)
    learner = STDP(layer, rule, norm=norm)
    off = ~torch.eye(7, dtype=torch.bool)
    for learn in (lambda: learner.run(spikes(9, 3, 7), spikes(9, 3, 7, seed=1), 1.0), lambda: learner.reward(0.5)):
        before = layer.weight.detach().clone()
        learn()
        assert_equal(layer.weight.diagonal().detach(), torch.zeros(7).double())
        assert (layer.weight - before).abs()[off].max() > 0.01
        if norm is not None:
            torch.testing.assert_close(layer.weight.detach().sum(1), torch.full((7,), norm).double())


def test_errors_of_recurrent_layers():
    layer = recurrent()
    with pytest.raises(ValueError, match="STDP: neurons must be the recurrent layer that learns, got IF"):
        STDP(layer, plasticity.pair()).listen(layer.neuron)
    late = Recurrent(IF(), 7, weight=torch.rand(7, 7), delay=torch.ones(7))
    with pytest.raises(ValueError, match=r"STDP: the recurrent layer must have no delays, .* call run with the spikes"):
        STDP(late, plasticity.pair()).listen(late)


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
    with pytest.raises(TypeError, match=r"must be an nn\.Linear, .* SparseRecurrent of snnfast\.nn, got LSTM"):
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
