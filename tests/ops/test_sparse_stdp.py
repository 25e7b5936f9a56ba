"""``sparse_stdp_``: plasticity of synapses, against the reference and against the matrix."""

import math

import pytest
import torch
from backends import PRESENT, fetched, placed
from samples import assert_equal
from spike_linear_cases import needs_kernels
from stdp_cases import MODULATED, PLAIN, RULES, sample, with_reward

from snnfast import connect, ops, plasticity, reference
from snnfast.reference.call import flatten

pytestmark = needs_kernels
EXACT = {k for k in RULES if not k.endswith(("power law", "exponential", "pre and post"))}


def case(shape, dtype=torch.float64, total=None, rate=0.2, seed=0):
    """Return weights, spikes and synapses, of which some connect the same neurons."""
    n_pre, n_post = shape[2:]
    total = 3 * n_pre * (n_post > 0) if total is None else total
    c = connect.fixed_total(n_pre, n_post, total=total, seed=1)
    _, pre, post, _ = sample(shape, dtype, rate, seed)
    return torch.rand(len(c), generator=torch.Generator().manual_seed(seed), dtype=dtype), pre, post, c


def learned(op, w, *arguments, **how):
    """Return the weights and the state afterwards."""
    move = (lambda value: value) if op is reference.sparse_stdp_ else placed
    w = move(w.clone())
    state = op(w, *map(move, arguments), **{name: move(value) for name, value in how.items()})
    return fetched([w, *(value for value in state if value is not None)])


def agree(arguments, **how):
    assert_equal(learned(ops.sparse_stdp_, *arguments, **how), learned(reference.sparse_stdp_, *arguments, **how))


# ---- the kernel against the equations


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("update", ["step", "sequence"])
@pytest.mark.parametrize("label", RULES)
def test_every_rule_equals_the_reference(label, update):
    for batch in (1, 3):
        shape = (30, batch, 20, 17)
        how = {"rule": RULES[label], "update": update, "reduction": "mean"}
        reward = sample(shape)[3]
        agree(case(shape), **how, **with_reward(label, reward))
        agree(case(shape), **how, **with_reward(label, reward), norm=1.5)
        if label in EXACT:
            agree(case(shape, torch.float32), **how, **with_reward(label, reward))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4), (5, 0, 3, 4), (5, 2, 0, 4), (5, 2, 3, 0), (1, 1, 1, 1), (7, 2, 9, 70)], ids=str
)
@pytest.mark.parametrize("update", ["step", "sequence"])
def test_shapes_equal_the_reference(shape, update):
    agree(case(shape), rule=PLAIN["triplet"], update=update, norm=2.0)
    agree(case(shape, total=0), rule=PLAIN["triplet"], update=update)


@pytest.mark.usefixtures("kernels")
def test_weights_of_0_stay_where_all_of_a_neuron_are():
    w, pre, post, c = case((5, 1, 9, 7))
    w, post = w.where(c.edges()[1] != 3, 0.0), post.index_fill(2, torch.tensor(3), 0)
    found, *_ = learned(ops.sparse_stdp_, w, pre, post, c, rule=PLAIN["pair"], norm=1.0)
    assert_equal(found[c.edges()[1] == 3], w[c.edges()[1] == 3])
    agree((w, pre, post, c), rule=PLAIN["pair"], norm=1.0)


@pytest.mark.usefixtures("kernels")
def test_targets_of_32_bits_equal_the_reference():
    agree(case((5, 1, 40, 2**15 + 9), rate=0.5), rule=PLAIN["pair"])


@pytest.mark.usefixtures("kernels")
def test_chunks_of_steps_equal_the_reference():
    """A chunk holds the traces of 1 MiB, in the emulation of 64 KiB."""
    shape = (40, 2, 3000, 2000)
    for update in ("step", "sequence"):
        agree(case(shape, total=4000), rule=PLAIN["triplet"], update=update)
        agree(case(shape, total=4000), rule=MODULATED["reward, triplet"], update=update, reward=sample(shape)[3])


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("update", ["step", "sequence"])
@pytest.mark.parametrize("label", ["triplet", "power law", "reward, triplet"])
def test_synapses_of_some_neurons_equal_the_reference(label, update):
    arguments, reward = case((30, 2, 20, 17)), sample((30, 2, 20, 17))[3]
    for sources in (range(0, 20), range(0, 8), range(5, 20), range(7, 7)):
        how = {"rule": RULES[label], "update": update, "sources": sources, **with_reward(label, reward)}
        agree(arguments, **how)
        agree(arguments, **how, norm=1.5)


# ---- what must hold


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("update", ["step", "sequence"])
def test_synapses_of_some_neurons_learn_as_among_all_and_others_stay(update):
    w, pre, post, c = case((40, 2, 20, 17))
    chosen, how = c.out_of(range(3, 11)), {"rule": PLAIN["triplet"], "update": update}
    w[: chosen.start] -= 5  # out of the bounds
    found = learned(ops.sparse_stdp_, w, pre, post, c, **how, sources=range(3, 11))
    every = learned(ops.sparse_stdp_, w.clamp(min=0), pre, post, c, **how)
    want = w.clone()
    want[chosen] = every[0][chosen]
    assert_equal(found, [want, *every[1:]])
    assert not torch.equal(want[chosen], w[chosen])


@pytest.mark.usefixtures("kernels")
def test_norm_is_that_of_the_synapses_that_learn():
    w, pre, post, c = case((5, 1, 20, 4))
    found, *_ = learned(ops.sparse_stdp_, w, pre[:0], post[:0], c, rule=PLAIN["pair"], norm=0.7, sources=range(9, 20))
    chosen = c.out_of(range(9, 20))
    sums = found.new_zeros(4).index_add(0, c.edges()[1][chosen], found[chosen])
    torch.testing.assert_close(sums, torch.full((4,), 0.7, dtype=torch.float64))
    assert_equal(found[: chosen.start], w[: chosen.start])


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("update", ["step", "sequence"])
@pytest.mark.parametrize("label", sorted(EXACT))
def test_weights_are_those_of_the_matrix(label, update):
    w, pre, post, reward = sample((40, 2, 9, 6), torch.float32)
    c = connect.from_dense(torch.ones(6, 9))
    sources, targets = c.edges()
    how = {"rule": RULES[label], "update": update, "norm": 2.0, **with_reward(label, reward)}
    weights = w[targets, sources]
    found = learned(ops.sparse_stdp_, weights, pre, post, c, **how)
    weights, *traces = learned(ops.stdp_, w, pre, post, **how)
    traces[4:] = [eligibility[:, targets, sources] for eligibility in traces[4:]]
    assert_equal(found, [weights[targets, sources], *traces])


@pytest.mark.usefixtures("kernels")
def test_hand_worked():
    """Two synapses of one neuron; both neurons in between fire a step later."""
    c = connect.from_edges([0, 0], [1, 0], 1, 2)
    w = torch.tensor([0.5, 0.25])
    pre = torch.tensor([[[1.0]], [[0.0]], [[1.0]]])
    post = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    rule = plasticity.pair(0.125, 0.25, tau_pre=1e30, tau_post=1e30)
    w, pre, post = map(placed, (w, pre, post))
    ops.sparse_stdp_(w, pre, post, c, rule=rule)
    assert w.tolist() == [0.5 + 0.25 - 0.125, 0.25]


@pytest.mark.usefixtures("kernels")
def test_hand_worked_with_reward():
    """A pair leaves eligibility of 0.25, which halves in every step; the reward comes two steps later."""
    c = connect.from_edges([0], [0], 1, 1)
    pre, post = torch.tensor([1.0, 0, 0, 0])[:, None, None], torch.tensor([0, 1.0, 0, 0])[:, None, None]
    rule = plasticity.reward_modulated(plasticity.pair(0.0, 0.25, tau_pre=1e30), 1 / math.log(2))
    w, pre, post, reward = map(
        placed, (torch.tensor([0.5], dtype=torch.float64), pre, post, torch.tensor([0, 0, 0, 4.0]))
    )
    state = ops.sparse_stdp_(w, pre, post, c, rule=rule, reward=reward.double())
    torch.testing.assert_close(fetched(state.eligibility), torch.tensor([[0.0625]], dtype=torch.float64))
    torch.testing.assert_close(fetched(w), torch.tensor([0.75], dtype=torch.float64))


@pytest.mark.usefixtures("kernels")
def test_in_parts_gives_the_bits_of_the_whole():
    w, pre, post, c = case((40, 2, 20, 17))
    want = learned(ops.sparse_stdp_, w, pre, post, c, rule=PLAIN["triplet"])
    w, pre, post = map(placed, (w, pre, post))
    state = ops.sparse_stdp_(w, pre[:13], post[:13], c, rule=PLAIN["triplet"])
    state = ops.sparse_stdp_(w, pre[13:], post[13:], c, rule=PLAIN["triplet"], state=state)
    assert_equal(fetched([w, *state[:4]]), want)


@pytest.mark.parametrize("update", ["step", "sequence"])
def test_any_number_of_threads_gives_the_same_bits(threads, update):
    arguments = case((60, 3, 500, 300), torch.float32, total=20_000)

    def run(count):
        threads(count)
        return learned(ops.sparse_stdp_, *arguments, rule=PLAIN["triplet"], update=update, norm=9.0)

    want = run(1)
    for count in (2, 3):
        assert_equal(run(count), want)


@pytest.mark.usefixtures("kernels")
def test_weights_with_strides_and_parameters_learn():
    w, pre, post, c = case((20, 2, 9, 7))
    (want, *_) = learned(ops.sparse_stdp_, w, pre, post, c, rule=PLAIN["pair"])
    w, pre, post = map(placed, (w, pre, post))
    wide = torch.stack([w, w * torch.nan], 1)
    ops.sparse_stdp_(wide[:, 0], pre.float(), post.double(), c, rule=PLAIN["pair"])
    assert_equal(fetched([wide[:, 0]]), [want])
    parameter = torch.nn.Parameter(w.clone())
    ops.sparse_stdp_(parameter, pre, post, c, rule=PLAIN["pair"])
    assert_equal(fetched([parameter.detach()]), [want])
    assert parameter._version == 1


def test_opcheck_finds_nothing():
    w, pre, post, c = case((9, 2, 7, 5))
    for how in ({"rule": PLAIN["triplet"]}, {"rule": MODULATED["reward, pair"], "reward": 1.0}):
        call = ops.sparse_stdp_.check(w, pre, post, c, norm=1.0, **how)
        torch.library.opcheck(torch.ops.snnfast.sparse_stdp_, flatten(call))


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")
def test_wrong_synapses_on_a_gpu_reach_no_other_memory():
    """A kernel checks every index, since the host does not read them; the emulation has the bounds of the CPU."""
    w, pre, post, c = case((5, 2, 3, 4))
    call = ops.sparse_stdp_.check(w, pre, post, c, rule=PLAIN["pair"], norm=1.0)
    for name in ("targets", "incoming_first", "incoming", "sources"):
        for change in (-3, 4, 1000):
            wrong = call._replace(**{name: getattr(call, name) + change})
            torch.ops.snnfast_emulated.sparse_stdp_(*flatten(wrong))
            assert w.isfinite().all()


# ---- errors

SHAPE = (5, 2, 3, 4)
W, PRE, POST, C = case(SHAPE, torch.float32)
PAIR = plasticity.pair()
MISTAKES = {
    "a matrix": ({"connectivity": torch.ones(3, 4)}, TypeError, "connectivity must be a Connectivity, .* got Tensor"),
    "delays": (
        {"connectivity": C.with_delay(torch.arange(len(C)) % 3 + 1)},
        ValueError,
        "connectivity must have the same delay everywhere, got 1 to 3 steps",
    ),
    "weights of a matrix": ({"w": torch.ones(4, 3)}, ValueError, r"w must have shape \[9\], got \[4, 3\]"),
    "whole weights": ({"w": W.int()}, TypeError, "w must have dtype float32 or float64"),
    "weights overlap": ({"w": W[:1].expand(9)}, ValueError, "w must not overlap itself"),
    "weights out of bounds": ({"w": W - 2}, ValueError, r"w must lie in \[0, 1\], got values from"),
    "another device": ({"w": W.to("meta")}, ValueError, "w must be on the CPU or on CUDA, .* got meta"),
    "other neurons before": ({"pre": POST}, ValueError, r"pre must have shape \[T, B, 3\]"),
    "other neurons behind": ({"post": PRE}, ValueError, r"post must have shape \[5, 2, 4\]"),
    "membranes": ({"pre": torch.full(PRE.shape, 0.5)}, ValueError, "pre must be spikes, 0 or 1"),
    "no reward": ({"rule": plasticity.reward_modulated(PAIR, 5.0)}, ValueError, "reward must be given, since rule is"),
    "a reward": ({"reward": 1.0}, ValueError, "reward must be None, since rule is not reward-modulated"),
    "no rule": ({"rule": "pair"}, TypeError, "rule must be a rule of snnfast.plasticity, got str"),
    "no step": ({"dt": 0.0}, ValueError, "dt must be"),
    "no state": ({"state": (1, 2)}, TypeError, "state must be a StdpState or None, got tuple"),
    "no update": ({"update": "day"}, ValueError, "update must be step or sequence, got 'day'"),
    "no reduction": ({"reduction": "max"}, ValueError, "reduction must be sum or mean, got 'max'"),
    "no norm": ({"norm": -1.0}, ValueError, "norm must be"),
    "no sources": ({"sources": [0, 1]}, TypeError, r"sources must be a range, such as range\(0, 3\), got list"),
    "sources beyond": ({"sources": range(1, 4)}, ValueError, "sources must be a range with step 1 within .* got range"),
}


@pytest.mark.parametrize("label", MISTAKES)
def test_errors_name_the_argument(label):
    changes, error, message = MISTAKES[label]
    arguments = {"w": W.clone(), "pre": PRE, "post": POST, "connectivity": C, "rule": PAIR} | changes
    with pytest.raises(error, match=f"sparse_stdp_: .*{message}"):
        ops.sparse_stdp_(**arguments)


@pytest.mark.parametrize(
    "changes",
    [
        {"w": torch.ones(8)},
        {"w": torch.ones(9, dtype=torch.int32)},
        {"pre": PRE[0]},
        {"post": POST[:, :1]},
        {"targets": C.targets + 4},
        {"first": C.first.flip(0)},
        {"incoming_first": C.incoming.first.flip(0)},
        {"incoming_first": C.incoming.first[1:]},
        {"incoming": C.incoming.synapses + 1},
        {"incoming": C.incoming.synapses - 1},
        {"incoming": C.incoming.synapses.long()},
        {"incoming": C.incoming.synapses.flip(0)},
        {"sources": C.incoming.sources + 1},
        {"sources": C.incoming.sources - 1},
        {"begin": -1},
        {"begin": 3, "end": 2},
        {"end": 4},
        {"reward": torch.ones(5, 2)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_raw_calls_with_wrong_tensors_are_refused(changes):
    call = ops.sparse_stdp_.check(W.clone(), PRE, POST, C, rule=PAIR)
    torch.ops.snnfast.sparse_stdp_(*flatten(call))
    with pytest.raises(RuntimeError, match="sparse_stdp_: "):
        torch.ops.snnfast.sparse_stdp_(*flatten(call._replace(**changes)))
