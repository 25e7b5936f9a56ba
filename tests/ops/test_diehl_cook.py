"""The network of Diehl and Cook: equal bit for bit on every backend, in parts, for any layout and size."""

import functools
import itertools

import pytest
import torch
from backends import PRESENT, force
from diehl_cook_cases import DYNAMICS, ROUNDED, RULES, WAYS, assert_same, dense, emulate, moved, run, sample
from raw_calls import opcheck
from samples import assert_all, assert_equal

from snnfast import ops, plasticity, reference
from snnfast.ops import Events, Rates
from snnfast.reference.call import flatten

WEAK = {"inhibition": 0.5}  # weak, so that other neurons win the steps after a winner
# N, I: one group of 64 neurons or several, whole and partial; inputs in every phase of Philox's counters of 4.
SIZES = ((5, 31), (64, 28), (70, 30), (130, 49))


@functools.cache
def expected_of(rule, dynamics, dtype, sizes, count, steps, **changes):
    """Return the arguments of a call and the results of the reference."""
    w, theta, x = sample(sizes, dtype, count, steps, low=-0.1 if rule == "negative weights" else 0.0)
    norm = None if rule in ("none", "negative weights") else 0.25 * sizes[1]
    arguments = {"rule": RULES[rule], "norm": norm, **DYNAMICS[dynamics]} | changes
    expected = run(reference.diehl_cook_, x, w, theta, return_spikes=True, return_state=True, **arguments)
    assert expected[0].counts.sum() > 3
    return (x, w, theta), arguments, expected


def assert_equals_reference(name, rule, dynamics, dtype, sizes, count=3, steps=60, **changes):
    """Compare with and without ``return_state``: without it the CPU kernel skips more work."""
    inputs, arguments, expected = expected_of(rule, dynamics, dtype, sizes, count, steps, **changes)
    with force(name) as on:
        close = rule in ROUNDED and (dtype == torch.float32 or not on.exact)
        inputs = moved(inputs, on.device)
        for asked in (True, False):
            got = run(ops.diehl_cook_, *inputs, return_spikes=asked, return_state=asked, **arguments)
            assert_same(moved(got, "cpu"), expected, close)


# Every rule and every dynamics in both dtypes; all combinations on the CPU in float64.
CASES = [
    (name, rule, dynamics, dtype)
    for name in PRESENT
    for k, rule in enumerate(RULES)
    for m, dynamics in enumerate(DYNAMICS)
    for dtype in (torch.float64, torch.float32)
    if (name == "cpu" and dtype == torch.float64) or (k + (m if dtype == torch.float64 else -m)) % len(DYNAMICS) == 0
]


@pytest.mark.parametrize(("name", "rule", "dynamics", "dtype"), CASES, ids=str)
def test_kernels_equal_reference(name, rule, dynamics, dtype):
    sizes = SIZES[(list(RULES).index(rule) + list(DYNAMICS).index(dynamics)) % len(SIZES)]
    assert_equals_reference(name, rule, dynamics, dtype, sizes)


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize(("dynamics", "sizes"), [*zip(DYNAMICS, itertools.cycle([(1100, 12), (2100, 9)]))], ids=str)
def test_more_neurons_than_a_block_of_cuda_has_threads(name, dynamics, sizes):
    """A thread has several neurons."""
    rule = "pre and post" if sizes[0] == 1100 else "triplet"
    # Else one neuron spikes and no other.
    weak = {"inhibition": 0.5} if "one winner" in dynamics else {}
    assert_equals_reference(name, rule, dynamics, torch.float64, sizes, 2, 25, **weak)


@pytest.mark.parametrize("name", [n for n in PRESENT if n == "cuda_emulation"])
@pytest.mark.parametrize(
    ("way", "dynamics"),  # not all combinations: the place of the memory does not change a spike
    [(w, d) for k, w in enumerate(WAYS) for m, d in enumerate(DYNAMICS) if (k + m) % 3 < 2],
)
def test_wherever_cuda_has_its_memory(name, way, dynamics, monkeypatch):
    emulate(monkeypatch, way, EMULATION_SCHEDULE="rand:3")
    rule = list(RULES)[1 + list(DYNAMICS).index(dynamics)]
    assert_equals_reference(name, rule, dynamics, torch.float64, (130, 49), 2, 25, **WEAK)
    many = (1100, 12), 2, 25
    assert_equals_reference(name, "pre and post", dynamics, torch.float64, *many, **WEAK)


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize(("sizes", "count"), [((5, 31), 19), ((1100, 12), 3)], ids=str)
def test_many_images_at_once_without_learning(name, sizes, count):
    """More images than blocks."""
    assert_equals_reference(name, "none", "frozen", torch.float32, sizes, count, steps=25)


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_forms_of_input_are_one(name, sizes):
    with force(name) as on:
        w, theta, x = sample(sizes)
        x = Rates(*(v.to(on.device) if isinstance(v, torch.Tensor) else v for v in x))
        w, theta = w.to(on.device), theta.to(on.device)
        arguments = {"rule": RULES["triplet"], "norm": 8.0, "return_spikes": True}
        spikes = dense(x, sizes[1])
        expected = run(ops.diehl_cook_, x, w, theta, **arguments)
        assert spikes.any()
        for form in (
            spikes,
            spikes.bool(),
            -spikes.float(),
            spikes.double() * 0.3,
            spikes.transpose(0, 1).contiguous().transpose(0, 1),
            Events.from_dense(spikes.cpu()),
        ):
            if isinstance(form, Events):
                form = Events(*(v.to(on.device) for v in form))
            assert_same(run(ops.diehl_cook_, form, w, theta, **arguments), expected)


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("cuts", [(1, 2, 17, 10), (0, 30)], ids=str)
def test_cut_in_time_is_the_same(backend, dynamics, cuts):
    """The state is complete: it includes spikes that have not arrived, also between blocks of a grid."""
    neurons = 1100 if len(cuts) == 4 else 20
    w, theta, x = sample((neurons, 24), count=1, steps=30)
    spikes = dense(x, 24)
    with force(backend) as on:
        w, theta, spikes = w.to(on.device), theta.to(on.device), spikes.to(on.device)
        arguments = {
            "rule": RULES["triplet"],
            "return_state": True,
            "return_spikes": True,
            **DYNAMICS[dynamics],
            **(WEAK if neurons > 1000 and "one winner" in dynamics else {}),
        }
        whole, w_whole, theta_whole = run(ops.diehl_cook_, spikes, w, theta, **arguments)
        w_cut, theta_cut, state, raster = w.clone(), theta.clone(), None, []
        for piece in spikes.split(list(cuts), dim=1):
            part = ops.diehl_cook_(piece, w_cut, theta_cut, state=state, v_threshold=4.0, v_reset=1.0, **arguments)
            state = part.state
            raster.append(part.spikes)
        assert_same(
            (whole._replace(spikes=torch.cat(raster, 1), counts=whole.counts, state=state), w_cut, theta_cut),
            (whole, w_whole, theta_whole),
        )
        assert whole.spikes.sum() > 1


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("layout", ["transposed", "rows", "sliced"])
def test_layouts(backend, layout):
    w, theta, x = sample((70, 28))
    expected = run(reference.diehl_cook_, x, w, theta, rule=RULES["triplet"], norm=7.0)
    with force(backend) as on:
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        room = torch.full((75, 61), 0.5, dtype=w.dtype, device=on.device)
        if layout == "transposed":
            laid = w.t().contiguous().to(on.device).t()
        else:
            laid = w.to(on.device) if layout == "rows" else room[2:72, 3:59:2]
            laid.copy_(w)
        thresholds = (
            torch.stack([theta, theta], 1).to(on.device)[:, 0] if layout == "sliced" else theta.to(on.device).clone()
        )
        result = ops.diehl_cook_(x, laid, thresholds, v_threshold=4.0, v_reset=1.0, rule=RULES["triplet"], norm=7.0)
        assert_equal(result.counts.cpu(), expected[0].counts)
        assert_equal(laid.cpu(), expected[1])
        assert_equal(thresholds.cpu(), expected[2])
        if layout == "sliced":
            laid.fill_(0.5)
            assert_all(room, 0.5)


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
def test_many_presentations_in_one_call_or_in_many(backend):
    """Chunks, refreshed bounds and copied weights begin and end within the presentations."""
    w, theta, x = sample((70, 28), torch.float32, count=40 if backend == "reference" else 70, steps=12)
    arguments = {"rule": RULES["triplet"], "norm": 7.0, "inhibition_delay": 0, "one_winner": True}
    with force(backend) as on:
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        w, theta = w.to(on.device), theta.to(on.device)
        whole = run(ops.diehl_cook_, x, w, theta, **arguments)
        w_cut, theta_cut, counts = w.clone(), theta.clone(), []
        for p in range(0, len(x.hz), 7):
            part = Rates(x.hz[p : p + 7], x.num_steps, x.seeds[p : p + 7])
            result = ops.diehl_cook_(part, w_cut, theta_cut, v_threshold=4.0, v_reset=1.0, **arguments)
            counts.append(result.counts)
        assert_equal(torch.cat(counts), whole[0].counts)
        assert_equal(w_cut, whole[1])
        assert_equal(theta_cut, whole[2])


@pytest.mark.parametrize("name", ["reference", *PRESENT])
def test_weights_keep_their_sum_and_bounds(name):
    w, theta, x = sample((70, 28), count=6)
    with force(name) as on:
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        before = w.clone()
        result, after, _ = run(ops.diehl_cook_, x, w.to(on.device), theta.to(on.device), rule=RULES["pair"], norm=7.0)
        plastic = (result.counts.sum(0) > 0).cpu()
        after = after.cpu()
    assert plastic.any()
    assert not plastic.all()
    torch.testing.assert_close(after[plastic].sum(1), torch.full((int(plastic.sum()),), 7.0, dtype=w.dtype))
    assert_equal(after[~plastic], before[~plastic])
    assert after.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("name", ["reference", *PRESENT])
@pytest.mark.parametrize("shape", [(0, 5, 4, 3), (2, 0, 4, 3), (2, 5, 0, 3), (2, 5, 4, 0)], ids=str)
def test_empty(name, shape):
    p, t, i, n = shape
    with force(name) as on:
        w = torch.full((n, i), 0.5, device=on.device)
        theta = torch.zeros(n, device=on.device)
        result = ops.diehl_cook_(
            torch.ones(p, t, i, device=on.device),
            w,
            theta,
            rule=plasticity.pair(),
            norm=1.0,
            return_spikes=True,
            return_state=True,
        )
    assert result.counts.shape == (p, n)
    assert result.counts.sum() == 0
    assert result.spikes.shape == (p, t, n)
    assert result.state.v.shape == (n,)


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize(("form", "carry"), [("spikes", False), ("events", True), ("rates", False)])
def test_opcheck(name, form, carry):
    w, theta, x = sample((6, 8), torch.float32, count=2, steps=9)
    spikes = dense(x, 8)
    x = {"spikes": spikes, "events": Events.from_dense(spikes), "rates": x}[form]
    state = reference.diehl_cook_(spikes, w, theta, return_state=True).state if carry else None
    with force(name) as on:
        x, w, theta, state = moved((x, w, theta, state), on.device)
        call = ops.diehl_cook_.check(
            x, w, theta, rule=RULES["pair"], norm=2.0, state=state, v_threshold=4.0, return_spikes=True
        )
        opcheck(on.ops.diehl_cook_, flatten(call))
