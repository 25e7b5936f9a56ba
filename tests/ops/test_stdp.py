"""Plasticity of a dense layer: worked by hand, the same on every backend, cut in time, and safe."""

import functools
import itertools
import math

import pytest
import torch
from backends import PRESENT, force
from cases import check_each
from interpreter import python
from torch import nn

from snnfast import ops, plasticity, reference
from snnfast.calls.call import flatten
from snnfast.ops import StdpState

PLAIN = {
    "pair": plasticity.pair(0.01, 0.02, tau_pre=10, tau_post=30),
    "pair, all spikes": plasticity.pair(0.01, 0.02, trace="all"),
    "soft bounds": plasticity.soft_bounds(0.02, 0.03, w_min=-0.5, w_max=1.5),
    "power law": plasticity.power_law(0.05, x_tar=0.3),
    "exponential": plasticity.exponential(0.05, beta=3.0),
    "pre and post": plasticity.pre_post(0.02, 0.05, mu=0.7),
    "triplet": plasticity.triplet(0.01, 0.02, lr_pre_triplet=0.01, lr_post_pair=0.01, trace="all"),
}
MODULATED = {f"reward, {k}": plasticity.reward_modulated(r, 7.0) for k, r in PLAIN.items()}
RULES = PLAIN | MODULATED
ROUNDED = ("power law", "exponential", "pre and post")  # float32 has functions of its own there
# T, B, N_pre, N_post: around a block of 8 or 16 rows, a mask of 32 slots, and over several chunks of steps.
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


def equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def sample(shape, dtype=torch.float64, rate=0.2, seed=0):
    """Weights, spikes of both sides and rewards."""
    num_steps, batch, n_pre, n_post = shape
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand((n_post, n_pre), generator=generator, dtype=dtype)
    pre = torch.rand((num_steps, batch, n_pre), generator=generator) < rate
    post = torch.rand((num_steps, batch, n_post), generator=generator) < rate
    reward = torch.randn((num_steps, batch), generator=generator, dtype=dtype)
    reward[torch.rand((num_steps, batch), generator=generator) < 0.3] = 0
    return w, pre, post, reward


def with_reward(name, reward):
    return {"reward": reward} if name in MODULATED else {}


def on(device, *values):
    return [v.to(device) if isinstance(v, torch.Tensor) else v for v in values]


def assert_same(actual, expected, exact):
    for a, e in zip(actual, expected, strict=True):
        assert (a is None) == (e is None)
        if a is not None:
            if exact:
                equal(a.cpu(), e)
            else:
                tolerance = 1e-5 if e.dtype == torch.float32 else 1e-12
                torch.testing.assert_close(a.cpu(), e, rtol=tolerance, atol=tolerance)


def one_synapse(rule, pre, post, device, w=0.5, **arguments):
    """The weight after every step of spike trains like "..|.", float64."""
    weight = torch.tensor([[w]], dtype=torch.float64, device=device)
    trains = [
        torch.tensor([c == "|" for c in s], device=device)[:, None, None] for s in (pre, post)
    ]
    state, weights = None, []
    for s_pre, s_post in zip(*trains, strict=True):
        state = ops.stdp_(weight, s_pre[None], s_post[None], rule=rule, state=state, **arguments)
        weights.append(weight.item())
    return weights


def decay(steps, tau=20.0):
    return math.exp(-steps / tau)


class TestWorkedByHand:
    def test_pre_before_post_strengthens(self, backend):
        rule = plasticity.pair(0.1, 0.2)
        weights = one_synapse(rule, "|....", "...|.", backend.device)
        assert weights == pytest.approx([0.5] * 3 + [0.5 + 0.2 * decay(3)] * 2, abs=1e-15)

    def test_post_before_pre_weakens(self, backend):
        rule = plasticity.pair(0.1, 0.2, tau_post=5.0)
        weights = one_synapse(rule, "..|.", "|...", backend.device)
        assert weights == pytest.approx([0.5] * 2 + [0.5 - 0.1 * decay(2, 5.0)] * 2, abs=1e-15)

    def test_spikes_of_one_step_pair_both_ways(self, backend):
        assert one_synapse(plasticity.pair(0.1, 0.3), "|", "|", backend.device) == pytest.approx(
            [0.7]
        )

    def test_nearest_and_all_spikes(self, backend):
        for trace, x in (("nearest", decay(1)), ("all", decay(1) + decay(3))):
            rule = plasticity.pair(0.0, 0.1, trace=trace)
            weights = one_synapse(rule, "|.|.", "...|", backend.device)
            assert weights[-1] == pytest.approx(0.5 + 0.1 * x, abs=1e-15)

    def test_soft_bounds(self, backend):
        rule = plasticity.soft_bounds(0.1, 0.2, w_min=0.1, w_max=0.8)
        up = one_synapse(rule, "|.", ".|", backend.device)[-1]
        down = one_synapse(rule, ".|", "|.", backend.device)[-1]
        assert up == pytest.approx(0.5 + 0.2 * decay(1) * 0.3, abs=1e-15)
        assert down == pytest.approx(0.5 - 0.1 * decay(1) * 0.4, abs=1e-15)

    def test_power_law(self, backend):
        rule = plasticity.power_law(0.1, x_tar=0.4, mu=0.2)
        weights = one_synapse(rule, ".|", "||", backend.device)
        first = 0.5 + 0.1 * (0 - 0.4) * 0.5**0.2
        second = first + 0.1 * (1 - 0.4) * (1 - first) ** 0.2
        assert weights == pytest.approx([first, second], abs=1e-15)

    def test_exponential(self, backend):
        rule = plasticity.exponential(0.1, x_tar=0.4, beta=2.0)
        expected = 0.3 + 0.1 * (decay(1) * math.exp(-0.6) - 0.4 * math.exp(-1.4))
        actual = one_synapse(rule, "|.", ".|", backend.device, w=0.3)[-1]
        assert actual == pytest.approx(expected, abs=1e-15)

    def test_pre_post(self, backend):
        rule = plasticity.pre_post(0.1, 0.2, x_tar=0.4, mu=0.5)
        weights = one_synapse(rule, ".|", "|.", backend.device)
        first = 0.5 - 0.2 * 0.4 * 0.5**0.5
        assert weights == pytest.approx([first, first - 0.1 * decay(1) * first**0.5], abs=1e-15)

    def test_triplet(self, backend):
        rule = plasticity.triplet(0.01, 0.1, lr_pre_triplet=0.02, lr_post_pair=0.03)
        weights = one_synapse(rule, "|..|", ".|.|", backend.device)
        second = 0.5 + decay(1) * 0.03
        grown = 1 * (0.03 + 0.1 * decay(2, 40))
        lost = 1 * (0.01 + 0.02 * decay(3, 40))
        assert weights == pytest.approx([0.5, second, second, second + grown - lost], abs=1e-15)

    def test_first_spike_of_the_papers_triplet_strengthens_nothing(self, backend):
        assert one_synapse(plasticity.triplet(), "|.", ".|", backend.device) == [0.5, 0.5]

    def test_bounds_hold(self, backend):
        rule = plasticity.pair(2.0, 3.0, w_min=-1.0, w_max=2.0)
        assert one_synapse(rule, "|.", ".|", backend.device)[-1] == 2
        assert one_synapse(rule, ".|", "|.", backend.device)[-1] == -1

    def test_batch_is_summed_or_averaged(self, backend):
        for reduction, share in (("sum", 1.0), ("mean", 0.25)):
            w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
            pre, post = torch.ones((2, 1, 4, 1), dtype=torch.bool, device=backend.device)
            post[0, 2:] = False
            ops.stdp_(w, pre, post, rule=plasticity.pair(0.01, 0.1), reduction=reduction)
            # Two samples pair in both directions; in the other two no postsynaptic trace is there.
            assert w.item() == pytest.approx(0.5 + share * 2 * (0.1 - 0.01), abs=1e-15)

    def test_sequence_adds_up_before_it_clamps(self, backend):
        trains = torch.tensor([[[True]], [[True]]], device=backend.device)
        rule = plasticity.pair(1.0, 3.0, tau_pre=1e9, tau_post=1e9, w_max=10.0)
        for update, expected in (("step", 4.5), ("sequence", 4.5)):
            w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
            ops.stdp_(w, trains, trains, rule=rule, update=update)
            assert w.item() == pytest.approx(expected)
        rule = plasticity.soft_bounds(0.0, 0.5, tau_pre=1e9, trace="nearest")
        for update, expected in (("step", 0.875), ("sequence", 1.0)):
            w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
            ops.stdp_(w, trains, trains, rule=rule, update=update)
            assert w.item() == pytest.approx(expected)

    def test_reward_meets_eligibility(self, backend):
        rule = plasticity.reward_modulated(plasticity.pair(0.0, 0.1), tau_eligibility=5.0)
        w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
        pre, post = torch.zeros((2, 6, 1, 1), device=backend.device)
        pre[0] = post[1] = 1
        reward = torch.tensor([9.0, 0, 0, 2.0, 0, -1.0], dtype=torch.float64, device=backend.device)
        state = ops.stdp_(w, pre, post, rule=rule, reward=reward)
        e = [0.1 * decay(1) * decay(t - 1, 5.0) for t in range(6)]
        assert w.item() == pytest.approx(0.5 + 2 * e[3] - e[5], abs=1e-15)
        assert state.eligibility.item() == pytest.approx(e[5], abs=1e-15)

    def test_norm_scales_every_row_after_the_last_step(self, backend):
        w = torch.tensor([[1.0, 3.0], [0, 0], [0.5, 0.5]], device=backend.device)
        none = torch.zeros((1, 1, 3), device=backend.device)
        ops.stdp_(w, none[..., :2], none, rule=plasticity.pair(w_max=3.5), norm=2.0)
        assert w.tolist() == [[0.5, 1.5], [0, 0], [1, 1]]
        ops.stdp_(w, none[..., :2], none, rule=plasticity.pair(w_max=1.5), norm=3.0)
        assert w.tolist() == [[0.75, 1.5], [0, 0], [1.5, 1.5]]


@functools.cache
def expected(name, dtype):
    """Shapes, each twice, and options in turn, and what the reference makes of them: the same for all kernels."""
    found = []
    options = itertools.cycle(itertools.product(("step", "sequence"), ("sum", "mean"), (None, 3.0)))
    for shape, (update, reduction, norm) in zip(SHAPES * 2, options):
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

    def check(one):
        shape, arguments, want = one
        w, pre, post, reward = on(kernels.device, *sample(shape, dtype))
        state = ops.stdp_(w, pre, post, **arguments, **with_reward(name, reward))
        assert_same((w, *state), want, exact)

    check_each(expected(name, dtype), check)


@pytest.mark.parametrize("name", PLAIN)
def test_same_learning_as_in_the_network_of_diehl_and_cook(backend, name):
    w, pre, _, _ = sample((30, 1, 40, 12))
    learned, theta = w.clone(), torch.zeros(12, dtype=torch.float64)
    network = {"v_threshold": 1.0, "v_reset": 0.0, "inhibition": 0.3, "refractory": 2.0}
    result = reference.diehl_cook_(
        pre.transpose(0, 1), learned, theta, rule=RULES[name], return_spikes=True, **network
    )
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
    kept = [s if s is None else s.clone() for s in half]
    actual = ops.stdp_(
        cut, pre[5:], post[5:], rule=rule, state=half, **with_reward(name, reward[5:])
    )
    assert_same(
        (cut.cpu(), *actual), (whole.cpu(), *(s if s is None else s.cpu() for s in expected)), True
    )
    for k, h in zip(kept, half, strict=True):
        if k is not None:
            equal(k, h)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16, torch.float16]
)
def test_a_spike_is_what_is_not_0(backend, dtype):
    w, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    expected = w.clone()
    ops.stdp_(expected, pre, post, rule=PLAIN["triplet"])
    values = torch.tensor(
        [1, 3, 255] if dtype == torch.uint8 else [1, -2, 1e-7], device=backend.device
    )
    pick = torch.arange(20, device=backend.device) % 3
    pre, post = pre.to(dtype) * values.to(dtype)[pick], post.to(dtype) * values.to(dtype)[pick[:9]]
    if dtype.is_floating_point:
        pre[pre == 0] = -0.0
    ops.stdp_(w, pre, post, rule=PLAIN["triplet"])
    equal(w, expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        lambda x: torch.stack([x, ~x], -1)[..., 0],
        lambda x: x[:1].expand(6, -1, -1),
        lambda x: x[:, :1].expand(-1, 2, -1),
    ],
)
def test_layout_of_spikes_does_not_matter(backend, view):
    w, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    expected = w.clone()
    ops.stdp_(expected, view(pre).contiguous(), view(post).contiguous(), rule=PLAIN["pair"])
    ops.stdp_(w, view(pre), view(post), rule=PLAIN["pair"])
    equal(w, expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.T.contiguous().T,
        lambda w: torch.stack([w, w], 2)[..., 1],
        lambda w: torch.cat([w, w], 1)[:, 5 : 5 + w.shape[1]].clone(),
    ],
)
def test_layout_of_weights_does_not_matter(backend, view):
    w, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    viewed, before = view(w), view(w).clone()
    ops.stdp_(viewed, pre, post, rule=PLAIN["soft bounds"], norm=4.0)
    ops.stdp_(before, pre, post, rule=PLAIN["soft bounds"], norm=4.0)
    equal(viewed, before)


def test_strides_whose_steps_miss_each_other_do_not_overlap(backend):
    w = torch.zeros(20, device=backend.device).as_strided((3, 4), (3, 4))
    expected = w.clone(memory_format=torch.contiguous_format)
    _, pre, post, _ = on(backend.device, *sample((6, 2, 4, 3), torch.float32))
    for weights in (w, expected):
        ops.stdp_(weights, pre, post, rule=PLAIN["pair"])
    equal(w, expected)


@pytest.mark.parametrize("strides", [(1, 7), (0, 0)])
def test_no_weights_of_any_strides(backend, strides):
    w = torch.zeros(9, device=backend.device).as_strided((0, 4), strides)
    pre, post = torch.ones(1, 2, 4, device=w.device), torch.ones(1, 2, 0, device=w.device)
    state = ops.stdp_(w, pre, post, rule=PLAIN["pair"])
    equal(state.trace_pre, pre[0])


def test_parameters_learn_in_place(backend):
    linear = nn.Linear(20, 9, bias=False).to(backend.device)
    with torch.no_grad():
        linear.weight.clamp_(0, 1)
    _, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    before, x = linear.weight.detach().clone(), torch.ones(20, device=backend.device)
    y = linear(x).sum()
    state = ops.stdp_(linear.weight, pre, post, rule=PLAIN["pair"])
    assert not torch.equal(linear.weight, before)
    assert linear.weight.requires_grad
    assert not any(s is not None and s.requires_grad for s in state)
    y.backward()  # needs x, not the weights


@pytest.mark.parametrize("reward", [0.5, "step", "scalar"])
def test_forms_of_reward(backend, reward):
    w, pre, post, full = on(backend.device, *sample((6, 2, 20, 9)))
    rule = MODULATED["reward, pair"]
    given = {"step": full[:, 0], "scalar": full[0, 0] * 0 + 0.5}.get(reward, reward)
    spread = full[:, :1].expand(6, 2) if reward == "step" else torch.full_like(full, 0.5)
    expected = w.clone()
    ops.stdp_(expected, pre, post, rule=rule, reward=spread)
    ops.stdp_(w, pre, post, rule=rule, reward=given)
    equal(w, expected)


def test_without_reward_nothing_is_learned_and_eligibility_builds_up(backend):
    w, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    before = w.clone()
    state = ops.stdp_(w, pre, post, rule=MODULATED["reward, pair"], reward=0.0)
    equal(w, before)
    assert state.eligibility.abs().sum() > 0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_matter(threads):
    w, pre, post, _ = sample((20, 6, 300, 70), torch.float32)
    expected = w.clone()
    reference.stdp_(expected, pre, post, rule=PLAIN["triplet"], norm=30.0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        ops.stdp_(w, pre, post, rule=PLAIN["triplet"], norm=30.0)
    finally:
        torch.set_num_threads(before)
    equal(w, expected)


def test_instruction_set_does_not_matter():
    if "cpu" not in PRESENT:
        pytest.skip("no CPU kernels")
    script = (
        "import torch; from snnfast import ops, plasticity as p; g = torch.Generator().manual_seed(0)\n"
        "w = torch.rand(19, 45, generator=g); pre = torch.rand(9, 3, 45, generator=g) < .2\n"
        "post = torch.rand(9, 3, 19, generator=g) < .2\n"
        "for rule in (p.pair(), p.soft_bounds(), p.pre_post(), p.exponential(), p.triplet()):\n"
        "    for u in ('step', 'sequence'): ops.stdp_(w, pre, post, rule=rule, update=u)\n"
        "print(w.flatten().tolist())"
    )
    outputs = {
        python(script, SNNFAST_BACKEND="cpu", SNNFAST_CPU_ISA=isa).stdout
        for isa in ("base", "avx2", "")  # "": the best there is
    }
    assert len(outputs) == 1


def test_uninitialised_memory_is_not_read(kernels, nan_memory):
    for name in RULES:
        w, pre, post, reward = on(kernels.device, *sample((40, 9, 60, 18)))
        for update in ("step", "sequence"):
            state = ops.stdp_(
                w, pre, post, rule=RULES[name], update=update, **with_reward(name, reward)
            )
            assert w.isfinite().all()
            assert all(s is None or s.isfinite().all() for s in state)


def changed(**changes):
    w, pre, post, _ = sample((3, 2, 5, 4), torch.float32)
    return {"w": w, "pre": pre, "post": post, "rule": PLAIN["pair"], **changes}


STATE = StdpState(*(torch.zeros(2, n) for n in (5, 5, 4, 4)), None)
REWARDED = MODULATED["reward, pair"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"w": [1.0]}, TypeError, "w must be a tensor, got list"),
        (
            {"w": torch.zeros(4, 5).half()},
            TypeError,
            "w must have dtype float32 or float64, got torch.float16",
        ),
        ({"w": torch.zeros(5)}, ValueError, "w must have shape [N_post, N_pre], got [5]"),
        (
            {"w": torch.full((4, 5), 1.5)},
            ValueError,
            "w must lie in [0, 1], got values from 1.5 to 1.5",
        ),
        (
            {"w": torch.full((4, 5), math.nan)},
            ValueError,
            "w must lie in [0, 1], got values from nan to nan",
        ),
        (
            {"w": torch.zeros(1, 5).expand(4, 5)},
            ValueError,
            "w must not overlap itself, got strides [0, 1]",
        ),
        (
            {"w": torch.zeros(8).as_strided((4, 5), (1, 1))},
            ValueError,
            "w must not overlap itself, got strides [1, 1]",
        ),
        ({"pre": None}, TypeError, "pre must be a tensor, got NoneType"),
        (
            {"pre": torch.zeros(3, 2, 5, dtype=torch.int64)},
            TypeError,
            "pre must have one of the dtypes bool, uint8, float32, float64, bfloat16, float16, got torch.int64",
        ),
        ({"pre": torch.zeros(3, 2, 4)}, ValueError, "pre must have shape [T, B, 5], got [3, 2, 4]"),
        ({"pre": torch.zeros(3, 5)}, ValueError, "pre must have shape [T, B, 5], got [3, 5]"),
        (
            {"pre": torch.zeros(3, 2, 5, device="meta")},
            ValueError,
            "pre must be on the device of w, cpu, got meta",
        ),
        (
            {"post": torch.zeros(3, 2, 5)},
            ValueError,
            "post must have shape [3, 2, 4], got [3, 2, 5]",
        ),
        (
            {"post": torch.zeros(3, 1, 4)},
            ValueError,
            "post must have shape [3, 2, 4], got [3, 1, 4]",
        ),
        ({"rule": "pair"}, TypeError, "rule must be a rule of snnfast.plasticity, got str"),
        ({"dt": 0.0}, ValueError, "dt must be positive, got 0"),
        ({"dt": "1"}, TypeError, "dt must be a number, got str"),
        ({"reduction": "max"}, ValueError, "reduction must be sum or mean, got 'max'"),
        ({"update": "epoch"}, ValueError, "update must be step or sequence, got 'epoch'"),
        ({"norm": -1.0}, ValueError, "norm must be positive, got -1"),
        ({"norm": math.inf}, ValueError, "norm must be finite, got inf"),
        ({"reward": 1.0}, ValueError, "reward must be None, since rule is not reward-modulated"),
        ({"rule": REWARDED}, ValueError, "reward must be given, since rule is reward-modulated"),
        ({"rule": REWARDED, "reward": "1"}, TypeError, "reward must be a number, got str"),
        ({"rule": REWARDED, "reward": math.nan}, ValueError, "reward must be finite, got nan"),
        (
            {"rule": REWARDED, "reward": torch.zeros(3).int()},
            TypeError,
            "reward must be floating point, got torch.int32",
        ),
        (
            {"rule": REWARDED, "reward": torch.zeros(2)},
            ValueError,
            "reward must be a number or have shape [3] or [3, 2], got [2]",
        ),
        (
            {"rule": REWARDED, "reward": torch.zeros(3, device="meta")},
            ValueError,
            "reward must be on the device of w, cpu, got meta",
        ),
        (
            {"rule": REWARDED, "reward": torch.full((3,), math.inf)},
            ValueError,
            "reward must be finite, got NaN or infinity",
        ),
        ({"state": tuple(STATE)}, TypeError, "state must be a StdpState or None, got tuple"),
        (
            {"state": STATE._replace(trace_pre=0.0)},
            TypeError,
            "state.trace_pre must be a tensor, got float",
        ),
        (
            {"state": STATE._replace(trace_post2=torch.zeros(4))},
            ValueError,
            "state.trace_post2 must have shape [2, 4], got [4]",
        ),
        (
            {"state": STATE._replace(trace_pre2=torch.zeros(2, 5).double())},
            TypeError,
            "state.trace_pre2 must have dtype torch.float32, got torch.float64",
        ),
        (
            {"state": STATE._replace(trace_post=torch.zeros(2, 4, device="meta"))},
            ValueError,
            "state.trace_post must be on the device of w, cpu, got meta",
        ),
        (
            {"state": STATE, "rule": REWARDED, "reward": 1.0},
            ValueError,
            "state.eligibility must be a tensor, since rule is reward-modulated",
        ),
        (
            {"state": STATE._replace(eligibility=torch.zeros(2, 4, 5))},
            ValueError,
            "state.eligibility must be None, since rule is not reward-modulated",
        ),
    ],
)
@pytest.mark.parametrize("name", [n for n in (*PRESENT, "reference") if n != "cuda"])
def test_errors(name, change, error, message):
    arguments = changed(**change)
    w = arguments.pop("w")
    before = w.clone() if isinstance(w, torch.Tensor) else None
    with force(name), pytest.raises(error) as caught:
        ops.stdp_(w, arguments.pop("pre"), arguments.pop("post"), **arguments)
    assert str(caught.value) == f"stdp_: {message}"
    if before is not None:
        equal(w, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau_pre": 0.0}, "tau_pre must be positive, got 0 ms"),
        ({"tau_eligibility": -1.0}, "tau_eligibility must be positive, got -1 ms"),
        ({"beta": -1.0}, "beta must be at least 0, got -1"),
        ({"mu": -0.5}, "mu must be at least 0, got -0.5"),
        ({"lr_pre": math.nan}, "lr_pre must be finite, got nan"),
        ({"lr_post": -1.0}, "lr_post must be at least 0, got -1"),
        ({"w_min": 1.0}, "w_min must be below w_max, got 1 and 1"),
        ({"trace": "some"}, "trace must be nearest or all, got 'some'"),
        (
            {"kind": "cubic"},
            "kind must be one of additive, linear, power, exponential, triplet, got 'cubic'",
        ),
    ],
)
def test_errors_of_rules(change, message):
    with pytest.raises(ValueError, match="plasticity: ") as caught:
        plasticity.Rule(**{"kind": "additive", **change})
    assert str(caught.value) == f"plasticity: {message}"


def kernel_call(shape, name, device, dtype=torch.float64):
    w, pre, post, reward = on(device, *sample(shape, dtype))
    return ops.stdp_.check(
        w, pre, post, rule=RULES[name], **({"reward": reward} if name in MODULATED else {})
    )


@pytest.mark.parametrize(
    ("shape", "name"),
    [((3, 2, 5, 4), "reward, triplet"), ((0, 1, 3, 2), "pair"), ((2, 1, 0, 2), "power law")],
)
def test_opcheck(kernels, shape, name):
    call = kernel_call(shape, name, kernels.device)
    torch.library.opcheck(kernels.ops.stdp_.default, flatten(call))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("w", torch.zeros(4, 5).half(), "w must be float32 or float64, got float16"),
        (
            "w",
            torch.zeros(5, 4).double().T,
            "w must have contiguous rows, got strides [1, 4] for shape [4, 5]",
        ),
        ("w", torch.zeros(20).double(), "w must have 2 dimensions, got shape [20]"),
        ("pre", torch.zeros(3, 2, 6), "pre must have shape [3, 2, 5], got [3, 2, 6]"),
        ("pre", torch.zeros(3, 2, 5).long(), "bfloat16 or float16, got int64"),
        ("pre", torch.zeros(3, 10), "pre must have shape [T, B, N_pre], got [3, 10]"),
        ("post", torch.zeros(3, 1, 4), "post must have shape [3, 2, 4], got [3, 1, 4]"),
        ("trace_pre", torch.zeros(2, 5), "trace_pre must be float64, got float32"),
        ("trace_pre2", torch.zeros(2, 6).double(), "trace_pre2 must have shape [2, 5], got [2, 6]"),
        ("trace_post", torch.zeros(4, 2).double().T, "trace_post must be contiguous, got strides"),
        ("trace_post2", torch.zeros(8).double(), "trace_post2 must have shape [2, 4], got [8]"),
        ("reward", torch.zeros(3, 2).double(), "must be given together, got only reward"),
        ("kind", 5, "kind of rule must be a number from 0 to 4, got 5"),
        ("kind", -1, "kind of rule must be a number from 0 to 4, got -1"),
    ],
)
def test_the_op_itself_is_safe(kernels, field, value, message):
    call = kernel_call((3, 2, 5, 4), "pair", kernels.device)
    if isinstance(value, torch.Tensor):
        value = value.to(kernels.device)
    if field in call._fields:
        call = call._replace(**{field: value})
    elif field in call.state._fields:
        call = call._replace(state=call.state._replace(**{field: value}))
    else:
        call = call._replace(rule=call.rule._replace(**{field: value}))
    with pytest.raises(RuntimeError, match="stdp_: ") as caught:
        kernels.ops.stdp_(*flatten(call))
    assert message in str(caught.value)


def test_raises_the_version_of_the_weights(backend):
    w, pre, post, _ = on(backend.device, *sample((3, 2, 5, 4)))
    for weights in (w, w.t().clone().t()):
        before = weights._version
        ops.stdp_(weights, pre, post, rule=RULES["pair"])
        assert weights._version > before


def test_compiles_to_one_graph(kernels):
    def learn(w, pre, post):
        state = ops.stdp_(w, pre, post, rule=PLAIN["triplet"], norm=5.0)
        return ops.stdp_(w, pre, post, rule=PLAIN["triplet"], state=state).trace_pre + 1

    w, pre, post, _ = on(kernels.device, *sample((4, 2, 20, 9)))
    expected = w.clone()
    trace = learn(expected, pre, post)
    compiled = torch.compile(learn, fullgraph=True, backend="aot_eager")
    equal(compiled(w, pre, post), trace)
    equal(w, expected)
