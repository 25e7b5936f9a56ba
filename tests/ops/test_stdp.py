"""Plasticity of a dense layer: equal on every backend, in parts, with rewards and without."""

import functools
import itertools

import pytest
import torch
from cases import check_each
from samples import assert_equal
from stdp_cases import MODULATED, PLAIN, RULES, on, sample, with_reward

from snnfast import ops, reference

WHOLE = ("pair", "triplet", "reward, pair")  # for the emulated CUDA, whose formulas are those of the CPU
ROUNDED = ("power law", "exponential", "pre and post")  # in float32 these use polynomials
# T, B, N_pre, N_post: sizes around a block of 8 or 16 rows and a mask of 32 slots, and several chunks of steps.
SHAPES = (
    (0, 2, 3, 4),
    (3, 0, 3, 4),
    (3, 2, 0, 4),
    (3, 2, 3, 0),
    (1, 1, 1, 1),
    (9, 3, 21, 17),
    (20, 1, 33, 15),
    (4, 37, 8, 16),
    (40, 9, 500, 3),
    (3, 2, 9, 40),
)


def assert_same(actual, expected, exact):
    for a, e in zip(actual, expected, strict=True):
        assert (a is None) == (e is None)
        if a is not None:
            if exact:
                assert_equal(a.cpu(), e)
            else:
                tolerance = 1e-5 if e.dtype == torch.float32 else 1e-12
                torch.testing.assert_close(a.cpu(), e, rtol=tolerance, atol=tolerance)


@functools.cache
def expected(name, dtype):
    """Return shapes, alternating options, and the results of the reference, which all kernels share.

    In float64 each shape occurs twice. A reward changes no formula, so every other shape is enough for it.
    """
    found = []
    shapes = SHAPES * (1 + (dtype == torch.float64))
    shapes = shapes[1::2] if name in MODULATED and name != "reward, pair" else shapes
    options = itertools.cycle(itertools.product(("step", "sequence"), ("sum", "mean"), (None, 3.0)))
    for shape, (update, reduction, norm) in zip(shapes, options):
        arguments = {"rule": RULES[name], "update": update, "reduction": reduction, "norm": norm}
        w, pre, post, reward = sample(shape, dtype)
        changed = w.clone()
        after = reference.stdp_(changed, pre, post, **arguments, **with_reward(name, reward))
        assert min(shape) == 0 or max(shape) == 1 or not torch.equal(changed, w)
        found.append((shape, arguments, (changed, *after)))
    return found


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_same_as_the_reference(kernels, name, dtype):
    exact = kernels.exact and (dtype == torch.float64 or name.split(", ")[-1] not in ROUNDED)

    def check(case):
        shape, arguments, want = case
        w, pre, post, reward = on(kernels.device, *sample(shape, dtype))
        state = ops.stdp_(w, pre, post, **arguments, **with_reward(name, reward))
        assert_same((w, *state), want, exact)

    cases = expected(name, dtype)
    if kernels.name == "cuda_emulation":  # each shape once, or every fourth one
        cases = cases[-len(SHAPES) :] if name in WHOLE else cases[1::4]
    check_each(cases, check)


@pytest.mark.parametrize("name", PLAIN)
def test_same_learning_as_in_the_network_of_diehl_and_cook(backend, name):
    w, pre, _, _ = sample((30, 1, 40, 12))
    learned, theta = w.clone(), torch.zeros(12, dtype=torch.float64)
    network = {"v_threshold": 1.0, "v_reset": 0.0, "inhibition": 0.3, "refractory": 2.0}
    result = reference.diehl_cook_(pre.transpose(0, 1), learned, theta, rule=RULES[name], return_spikes=True, **network)
    post = result.spikes.transpose(0, 1)
    assert 20 < post.sum() < 300
    w, pre, post = on(backend.device, w, pre, post)
    ops.stdp_(w, pre, post, rule=RULES[name])
    assert_same([w], [learned], backend.exact)


@pytest.mark.parametrize("name", RULES)
def test_cut_in_two(backend, name):
    w, pre, post, reward = on(backend.device, *sample((12, 3, 20, 18)))
    cut, whole = w.clone(), w
    rule = RULES[name]
    expected = ops.stdp_(whole, pre, post, rule=rule, **with_reward(name, reward))
    half = ops.stdp_(cut, pre[:5], post[:5], rule=rule, **with_reward(name, reward[:5]))
    copies = [s if s is None else s.clone() for s in half]
    actual = ops.stdp_(cut, pre[5:], post[5:], rule=rule, state=half, **with_reward(name, reward[5:]))
    assert_same((cut.cpu(), *actual), (whole.cpu(), *(s if s is None else s.cpu() for s in expected)), True)
    for k, h in zip(copies, half, strict=True):
        if k is not None:
            assert_equal(k, h)


@pytest.mark.parametrize("reward", [0.5, "step", "scalar"])
def test_forms_of_reward(backend, reward):
    w, pre, post, full = on(backend.device, *sample((6, 2, 20, 9)))
    rule = MODULATED["reward, pair"]
    rewards = {"step": full[:, 0], "scalar": full[0, 0] * 0 + 0.5}.get(reward, reward)
    spread = full[:, :1].expand(6, 2) if reward == "step" else torch.full_like(full, 0.5)
    expected = w.clone()
    ops.stdp_(expected, pre, post, rule=rule, reward=spread)
    ops.stdp_(w, pre, post, rule=rule, reward=rewards)
    assert_equal(w, expected)


def test_without_reward_nothing_is_learned_and_eligibility_builds_up(backend):
    w, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    before = w.clone()
    state = ops.stdp_(w, pre, post, rule=MODULATED["reward, pair"], reward=0.0)
    assert_equal(w, before)
    assert state.eligibility.abs().sum() > 0


def test_raises_the_version_of_the_weights(backend):
    w, pre, post, _ = on(backend.device, *sample((3, 2, 5, 4)))
    for weights in (w, w.t().clone().t()):
        before = weights._version
        ops.stdp_(weights, pre, post, rule=RULES["pair"])
        assert weights._version > before
