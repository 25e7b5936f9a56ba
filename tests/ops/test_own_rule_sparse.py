"""Custom learning rules of synapses: the kernel, the reference, and the same rule of the matrix."""

import warnings

import pytest
import torch
from backends import CPU, force
from raw_calls import Recorder
from samples import assert_equal
from spike_linear_cases import needs_kernels

from snnfast import connect, ops, plasticity

pytestmark = needs_kernels
T, B, PRE, POST = 20, 3, 40, 30
C = connect.fixed_total(PRE, POST, total=200, seed=1)


def pair(s):
    return 0.02 * s.s_post * s.x_pre - 0.01 * s.s_pre * s.x_post


def decay(s):
    """Rule with a change without spikes, of both second traces and a reward."""
    return 0.001 * s.x_pre2 * torch.exp(-s.w) - 0.01 * s.x_post2 * s.w + s.reward * torch.relu(s.x_pre - s.x_post)


def of_both_sides(s):
    """Rule with signals of both neurons."""
    return 0.01 * torch.tanh(s.v_post * s.v_pre) * s.w + 0.01 * s.s_pre * (s.v_post - s.w)


def spikes(neurons, seed):
    return torch.rand(T, B, neurons, generator=torch.Generator().manual_seed(seed)) < 0.2


def signal(neurons, dtype):
    return torch.randn(T, B, neurons, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)


def weights(dtype, c=C):
    return 0.1 + 0.8 * torch.rand(len(c), generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)


HOW = {
    "step": {},
    "sequence": {"update": "sequence"},
    "mean, norm": {"reduction": "mean", "norm": 2.0},
    "sources": {"sources": range(5, 33)},
    "reward": {"reward": torch.linspace(-1, 1, T)},
}


def run(name, change, how, dtype, c=C):
    """Return weights and state."""
    rule, how = plasticity.OwnRule(change), dict(HOW[how])
    if "reward" in how:
        rule, how["reward"] = plasticity.reward_modulated(rule, 50.0), how["reward"].to(dtype)
    if change is of_both_sides:
        how |= {"v_pre": signal(PRE, dtype), "v_post": signal(POST, dtype)}
    w = weights(dtype, c)
    with force(name), warnings.catch_warnings():
        warnings.simplefilter("error")
        state = ops.sparse_stdp_(w, spikes(PRE, 0), spikes(POST, 1), c, rule=rule, **how)
    return [w, *(value for value in state if value is not None)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("change", [pair, decay, of_both_sides])
def test_the_kernel_has_the_bits_of_the_reference(change, how, dtype):
    want = run("reference", change, how, dtype)
    for name in CPU:
        assert_equal(run(name, change, how, dtype), want)
    assert (want[0] - weights(dtype)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["reference", *CPU])
@pytest.mark.parametrize("how", HOW)
def test_synapses_of_all_neurons_learn_as_the_matrix(how, name):
    c = connect.from_dense(torch.ones(POST, PRE))
    sources, targets = c.edges()
    found = run(name, of_both_sides, how, torch.float64, c)
    matrix = c.dense(weights(torch.float64, c))
    arguments = {key: value for key, value in HOW[how].items() if key != "sources"}
    rule = plasticity.OwnRule(of_both_sides)
    if "reward" in arguments:
        rule, arguments["reward"] = plasticity.reward_modulated(rule, 50.0), arguments["reward"].double()
    signals = {"v_pre": signal(PRE, torch.float64), "v_post": signal(POST, torch.float64)}
    state = ops.stdp_(matrix, spikes(PRE, 0), spikes(POST, 1), rule=rule, **arguments, **signals)
    want = matrix[targets, sources]
    if how == "sources":
        learns = (sources >= 5) & (sources < 33)
        want = want.where(learns, weights(torch.float64, c))
    assert_equal(found, [want, *state[:4], *(e[:, targets, sources] for e in state[4:] if e is not None)])


def test_any_number_of_threads_gives_the_same_bits(threads):
    c = connect.fixed_total(PRE, POST, total=20_000, seed=1)
    found = []
    for count in (1, 2):
        threads(count)
        found.append(run(CPU[0], pair, "step", torch.float32, c))
    assert_equal(*found)


@pytest.mark.parametrize("sizes", [(0, 2), (2, 0), (0, 0)], ids=str)
def test_nothing_to_learn_changes_nothing(sizes):
    n_pre, n_post = sizes
    c, w = connect.fixed_total(n_pre, n_post, total=0), torch.zeros(0)
    state = ops.sparse_stdp_(w, spikes(n_pre, 0), spikes(n_post, 1), c, rule=plasticity.OwnRule(pair))
    assert [trace.shape[1] for trace in state[:4]] == [n_pre, n_pre, n_post, n_post]


def test_a_rule_that_fails_changes_nothing():
    w = weights(torch.float32)
    rule = plasticity.OwnRule(lambda s: s.s_pre * s.v_post)
    for name in ("reference", *CPU):
        with force(name), pytest.raises(AttributeError, match="change reads v_post, but has w, s_pre"):
            ops.sparse_stdp_(w, spikes(PRE, 0), spikes(POST, 1), C, rule=rule)
    assert_equal([w], [weights(torch.float32)])


def test_wrong_signals_name_the_argument():
    arguments = weights(torch.float32), spikes(PRE, 0), spikes(POST, 1), C
    rule = plasticity.OwnRule(of_both_sides)
    v_pre, v_post = signal(PRE, torch.float32), signal(POST, torch.float32)
    with pytest.raises(ValueError, match=r"sparse_stdp_: v_post must have shape \[20, 3, 30\]"):
        ops.sparse_stdp_(*arguments, rule=rule, v_pre=v_pre, v_post=v_pre)
    with pytest.raises(TypeError, match="sparse_stdp_: there is no argument 'voltage'"):
        ops.sparse_stdp_(*arguments, rule=rule, voltage=v_pre)
    with pytest.raises(TypeError, match=r"sparse_stdp_: v_post must be left out: a plasticity.OwnRule reads signals"):
        ops.sparse_stdp_(*arguments, rule=plasticity.pair(), v_post=v_post)


def raw(**changes):
    """Return the arguments of a call of the operator, of which some are others."""
    pre, post = (spikes(neurons, 0).float() for neurons in (PRE, POST))
    rule = plasticity.reward_modulated(plasticity.OwnRule(pair), 5.0)
    with force(CPU[0]), Recorder() as recorder:
        ops.sparse_stdp_(weights(torch.float32), pre, post, C, rule=rule, reward=0.5)
    ((_, arguments),) = [(func, flat) for func, flat in recorder.calls if "own_rule_" in str(func)]
    names = [argument.name for argument in torch.ops.snnfast.own_rule_.default._schema.arguments]
    return [changes[name](value) if name in changes else value for name, value in zip(names, arguments, strict=True)]


def test_raw_calls_without_neurons_change_nothing():
    nothing = {"s_post": lambda s: s[..., :0], "x_post": lambda x: x[..., :0], "x_post2": lambda x: x[..., :0]}
    rows = {"incoming_first": lambda first: first[:1], "incoming": lambda k: k[:0], "sources": lambda k: k[:0]}
    arguments = raw(w=lambda w: w[:0], eligibility=lambda e: e[:, :0], **nothing, **rows)
    torch.ops.snnfast.own_rule_(*arguments)


def test_opcheck():
    torch.library.opcheck(torch.ops.snnfast.own_rule_.default, raw())


@pytest.mark.parametrize(
    "changes",
    [
        {"w": lambda w: torch.stack([w, w], 1)[:, 0]},
        {"w": lambda w: w[1:]},
        {"w": lambda w: w.int()},
        {"s_post": lambda s_post: s_post[0]},
        {"x_post": lambda x_post: x_post[..., 1:]},
        {"eligibility": lambda eligibility: eligibility[:, 1:]},
        {"incoming": lambda _: None},
        {"sources": lambda _: None},
        {"incoming_first": lambda first: first[1:]},
        {"incoming_first": lambda first: first.flip(0)},
        {"incoming": lambda incoming: incoming + 1},
        {"incoming": lambda incoming: incoming - 1},
        {"incoming": lambda incoming: incoming.long()},
        {"sources": lambda sources: sources - PRE},
        {"sources": lambda sources: sources + PRE},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_raw_calls_with_wrong_tensors_are_refused(changes):
    torch.ops.snnfast.own_rule_(*raw())
    with pytest.raises(RuntimeError, match="own_rule_: "):
        torch.ops.snnfast.own_rule_(*raw(**changes))
