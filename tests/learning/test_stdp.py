"""``learning.STDP`` of a linear layer equals the op, by call, by step and by hook."""

import copy
import math
import pickle
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from snnfast import ops, plasticity
from snnfast.learning import STDP
from snnfast.nn import LIF, Time

EXAMPLE = Path(__file__).parents[2] / "examples" / "r_stdp.py"
RULE = plasticity.triplet(0.01, 0.05, lr_post_pair=0.02)
REWARDED = plasticity.reward_modulated(RULE, 10.0)


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(12, 7, bias=False, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.rand((7, 12), generator=generator))
    pre = (torch.rand((10, 3, 12), generator=generator) < 0.2).double()
    post = (torch.rand((10, 3, 7), generator=generator) < 0.2).double()
    return linear, pre, post


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("update", ["step", "sequence"])
def test_run_is_the_op(layer, reduction, update):
    linear, pre, post = layer
    expected = linear.weight.detach().clone()
    options = {"dt": 0.5, "reduction": reduction, "update": update, "norm": 3.0}
    learner = STDP(linear, RULE, **options)
    state = None
    for _ in range(2):
        learner.run(pre, post)
        state = ops.stdp_(expected, pre, post, rule=RULE, state=state, **options)
    torch.testing.assert_close(linear.weight, expected, rtol=0, atol=0)
    for a, b in zip(learner.state, state, strict=True):
        if a is not None or b is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_steps_are_a_run(layer):
    linear, pre, post = layer
    expected = linear.weight.detach().clone()
    ops.stdp_(expected, pre, post, rule=RULE)
    learner = STDP(linear, RULE)
    for s_pre, s_post in zip(pre, post, strict=True):
        learner.step(s_pre, s_post)
    torch.testing.assert_close(linear.weight, expected, rtol=0, atol=0)


def test_reset_forgets_spikes(layer):
    linear, pre, post = layer
    learner = STDP(linear, plasticity.pair(0.0, 0.1))
    learner.run(pre, torch.zeros_like(post))
    learner.reset()
    before = linear.weight.detach().clone()
    learner.run(torch.zeros_like(pre), post)
    torch.testing.assert_close(linear.weight, before, rtol=0, atol=0)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("reward", [-0.5, torch.tensor([1.0, -2.0, 0.0])])
def test_reward_afterwards_is_reward_with_the_last_step(layer, reduction, reward):
    linear, pre, post = layer
    expected = linear.weight.detach().clone()
    rewards = torch.zeros((10, 3), dtype=torch.float64)
    rewards[-1] = reward
    ops.stdp_(expected, pre, post, rule=REWARDED, reward=rewards, reduction=reduction)
    learner = STDP(linear, REWARDED, reduction=reduction)
    learner.run(pre, post)
    learner.reward(reward)
    torch.testing.assert_close(linear.weight.detach(), expected, rtol=1e-12, atol=1e-12)


def test_reward_afterwards_keeps_the_norm(layer):
    linear, pre, post = layer
    with torch.no_grad():
        linear.weight.mul_(3 / linear.weight.sum(1, keepdim=True))
    expected = linear.weight.detach().clone()
    ops.stdp_(expected, pre[:1], post[:1], rule=REWARDED, reward=0.5, norm=3.0)
    learner = STDP(linear, REWARDED, norm=3.0)
    learner.step(pre[0], post[0])
    learner.reward(0.5)
    torch.testing.assert_close(linear.weight.detach(), expected, rtol=1e-12, atol=1e-12)


def test_reward_with_every_step(layer):
    linear, pre, post = layer
    expected = linear.weight.detach().clone()
    rewards = torch.randn((10, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ops.stdp_(expected, pre, post, rule=REWARDED, reward=rewards)
    learner = STDP(linear, REWARDED)
    for s_pre, s_post, reward in zip(pre, post, rewards, strict=True):
        learner.step(s_pre, s_post, reward)
    torch.testing.assert_close(linear.weight, expected, rtol=0, atol=0)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("stateful", [False, True])
def test_listening_learns_in_training_mode_only(layer, stateful, folded):
    linear, pre, _ = layer
    neurons = LIF(tau=3.0, v_threshold=0.4, stateful=stateful)
    network = nn.Sequential(Time(linear) if folded else linear, neurons)
    learner = STDP(linear, RULE)
    handle = learner.listen(neurons)
    expected = linear.weight.detach().clone()
    post = network(pre)
    assert 10 < post.sum() < 150
    state = ops.stdp_(expected, pre, post, rule=RULE)
    torch.testing.assert_close(linear.weight, expected, rtol=0, atol=0)
    network.eval()
    network(pre)
    torch.testing.assert_close(linear.weight, expected, rtol=0, atol=0)
    network.train()
    second = network(pre)
    ops.stdp_(expected, pre, second, rule=RULE, state=state)
    torch.testing.assert_close(linear.weight, expected, rtol=0, atol=0)
    handle.remove()
    network(pre)
    torch.testing.assert_close(linear.weight, expected, rtol=0, atol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_of_a_network_that_listens_teaches_itself(layer, copied):
    linear, pre, _ = layer
    network = nn.Sequential(linear, LIF(tau=3.0, v_threshold=0.4))
    STDP(linear, RULE).listen(network[1])
    twin, before = copied(network), linear.weight.detach().clone()
    twin(pre)
    torch.testing.assert_close(linear.weight.detach(), before, rtol=0, atol=0)
    network(pre)
    assert not torch.equal(linear.weight, before)
    torch.testing.assert_close(twin[0].weight, linear.weight, rtol=0, atol=0)


def test_autograd_notices_that_weights_changed(layer):
    linear, pre, post = layer
    x = pre.clone().requires_grad_()
    y = linear(x).sum()
    STDP(linear, RULE).run(pre, post)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"linear": nn.Conv1d(1, 1, 1)},
            TypeError,
            "linear must be an nn.Linear, nn.Conv2d or a Recurrent, SparseLinear or SparseRecurrent of snnfast.nn, got "
            "Conv1d",
        ),
        ({"rule": "pair"}, TypeError, "rule must be a rule of snnfast.plasticity, got str"),
        ({"rule": plasticity.pair(w_max=0.5)}, ValueError, "linear.weight must lie in [0, 0.5], got values from "),
    ],
)
def test_errors(layer, change, error, message):
    with pytest.raises(error) as caught:
        STDP(**{"linear": layer[0], "rule": RULE, **change})
    assert str(caught.value).startswith(f"STDP: {message}")


def test_errors_of_steps_and_rewards(layer):
    linear, pre, post = layer
    learner = STDP(linear, RULE)
    with pytest.raises(ValueError, match=r"STDP: post of one step must have shape \[B, N\], got \[10, 3, 7\]"):
        learner.step(pre[0], post)
    with pytest.raises(ValueError, match="STDP: reward needs eligibility"):
        learner.reward(1.0)
    learner = STDP(linear, REWARDED)
    with pytest.raises(ValueError, match="STDP: reward needs eligibility"):
        learner.reward(1.0)
    learner.run(pre, post)
    with pytest.raises(ValueError, match=r"STDP: reward must be a number or have shape \[3\], got \[2\]"):
        learner.reward(torch.zeros(2))
    before = linear.weight.detach().clone()
    for wrong in (torch.tensor([math.nan, 1.0, 1.0]), torch.tensor(math.inf)):
        with pytest.raises(ValueError, match="STDP: reward must be finite, got NaN or infinity"):
            learner.reward(wrong)
    with pytest.raises(ValueError, match="STDP: reward must be finite, got NaN or infinity"):
        learner.run(pre, post, torch.full((10,), math.nan))
    for dtype in (torch.bool, torch.complex64):
        with pytest.raises(TypeError, match="STDP: reward must have one of the dtypes float32"):
            learner.reward(torch.ones(3, dtype=dtype))
    torch.testing.assert_close(linear.weight.detach(), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"stdp_: state.trace_pre must have shape \[2, 12\], got \[3, 12\]"):
        learner.run(pre[:, :2], post[:, :2])


def learned(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["r_stdp.py", *arguments])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    output = capsys.readouterr().out
    return output, [int(p) for p in re.findall(r"right (\d+) %", output)]


def test_the_example_learns_by_reward(monkeypatch, capsys):
    _, right = learned(monkeypatch, capsys)
    assert right[0] < 60
    assert right[-1] >= 95
    _, without = learned(monkeypatch, capsys, "--lr", "0", "--trials", "40")
    assert without[-1] < 45


def test_the_example_repeats_with_its_seed(monkeypatch, capsys):
    runs = [learned(monkeypatch, capsys, "--trials", "10")[0] for _ in range(2)]
    assert runs[0] == runs[1]
    assert learned(monkeypatch, capsys, "--trials", "10", "--seed", "1")[0] != runs[0]
