"""The network of Diehl and Cook with conductances: equal on every backend, in parts, for any layout and size."""

import itertools

import diehl_cook_cases
import pytest
import torch
from backends import CPU, force
from diehl_cook_cases import ROUNDED, assert_same, moved
from diehl_cook_conductance_cases import CONDUCTANCE, REFERENCE, dense, sample
from raw_calls import opcheck
from samples import assert_all, assert_equal, once

from snnfast import plasticity
from snnfast.ops import Events, Rates
from snnfast.reference.call import flatten

# Conductances are not negative.
RULES = {name: rule for name, rule in diehl_cook_cases.RULES.items() if name != "negative weights"}
DYNAMICS = {
    "the authors'": {},
    "delays": {"delays": 6},
    "long delays": {"delays": 25, "w_inh_exc": 1.0},
    "no inhibition": {"w_inh_exc": 0.0, "rest": 0.0},
    "weak inhibition": {"w_inh_exc": 0.5, "dt": 0.7, "refractory": 0.0},
    "threshold that decays": {"tau_theta": 300.0, "theta_plus": 0.4, "w_inh_exc": 1.0},
    "frozen": {"theta_plus": 0.0, "tau_theta": None, "delays": 3},
    "other constants": {
        "dt": 1.0,
        "v_reset": -60.0,
        "refractory": 2.5,
        "tau_inh": 5.0,
        "v_rest_inh": -62.0,
        "v_reset_inh": -50.0,
        "v_threshold_inh": -45.0,
        "refractory_inh": 3.0,
        "tau_g_exc": 2.0,
        "tau_g_inh": 5.0,
        "e_exc": 5.0,
        "e_inh": -80.0,
        "w_exc_inh": 4.0,
        "w_inh_exc": 2.0,
        "delays": 2,
    },
}
# Every rule with two dynamics, which alternate over the kinds of rules: both on the CPU in float64, else one.
CASES = [
    (name, rule, list(DYNAMICS)[(3 * k + shift) % len(DYNAMICS)], dtype)
    for name in CPU
    for k, rule in enumerate(RULES)
    for shift in (0, 1)
    for dtype in (torch.float64, torch.float32)
    if (name == "cpu" and dtype == torch.float64) or (k + shift + dtype.itemsize // 4) % 2
]
# N, I: part of a vector or several, whole and partial; inputs in every phase of Philox's counters of 4.
SIZES = ((5, 31), (32, 28), (35, 30), (70, 25))


def delays_to(longest, w):
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(longest + 1, w.shape, generator=generator, dtype=torch.uint8)
    return drawn.to(w.device)


def run(f, x, w, theta, **arguments):
    """Return the result, and the weights and thresholds after it; the arguments are not changed."""
    w, theta = w.clone(), theta.clone()
    if isinstance(arguments.get("delays"), int):
        arguments["delays"] = delays_to(arguments["delays"], w)
    return f(x, w, theta, **{"tau": 20.0, "rest": 5.0, **arguments}), w, theta


def by_reference(*inputs, **arguments):
    return run(REFERENCE, *inputs, **arguments)


def assert_equals_reference(name, inputs, rule, **arguments):
    """Compare with and without ``return_state``: without it the kernels skip more work."""
    arguments |= {"rule": RULES[rule], "norm": None if rule == "none" else 5.0}
    all_of_it = {"return_spikes": True, "return_state": True}
    expected, _ = once(by_reference, *inputs, **all_of_it, **arguments)
    assert expected[0].counts.sum() > 3
    with force(name) as on:
        close = rule in ROUNDED and (inputs[1].dtype == torch.float32 or not on.exact)
        inputs = [moved(v, on.device) for v in inputs]
        for asked in ({}, all_of_it):
            got = run(CONDUCTANCE, *inputs, **asked, **arguments)
            assert_same(moved(got, "cpu"), expected, close)


@pytest.mark.parametrize(("name", "rule", "dynamics", "dtype"), CASES, ids=str)
def test_kernels_equal_reference(name, rule, dynamics, dtype):
    w, theta, x = sample(SIZES[list(RULES).index(rule) % len(SIZES)], dtype)
    assert_equals_reference(name, (x, w, theta), rule, **DYNAMICS[dynamics])


MANY = {"tau": 4.0, "rest": 1.0, "w_inh_exc": 0.01, "delays": 2}


@pytest.mark.parametrize("name", CPU)
def test_every_input_fires_in_every_step(name):
    """The largest number of spikes has not arrived yet."""
    w, theta, x = sample((5, 7), steps=20)
    x = x._replace(hz=torch.full_like(x.hz, 2000.0))
    assert_equals_reference(name, (x, w, theta), "triplet", tau=4.0, rest=1.0, delays=3)


@pytest.mark.parametrize("name", CPU)
@pytest.mark.parametrize(("sizes", "count"), [((5, 31), 19), ((600, 12), 3)], ids=str)
def test_many_images_at_once_without_learning(name, sizes, count):
    w, theta, x = sample(sizes, torch.float32, count=count, steps=14)
    frozen = {"theta_plus": 0.0, "tau_theta": None}
    assert_equals_reference(name, (x, w, theta), "none", **MANY, **frozen)


@pytest.mark.parametrize("name", CPU)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_forms_of_input_are_one(name, sizes):
    with force(name) as on:
        w, theta, x = sample(sizes)
        x, w, theta = moved(x, on.device), w.to(on.device), theta.to(on.device)
        arguments = {"rule": RULES["triplet"], "norm": 5.0, "return_spikes": True, "delays": 4}
        spikes = dense(x, sizes[1])
        expected = run(CONDUCTANCE, x, w, theta, **arguments)
        assert expected[0].counts.any()
        for form in (
            spikes,
            spikes.bool(),
            -spikes.float(),
            spikes.double() * 0.3,
            spikes.transpose(0, 1).contiguous().transpose(0, 1),
            moved(Events.from_dense(spikes.cpu()), on.device),
        ):
            assert_same(run(CONDUCTANCE, form, w, theta, **arguments), expected)


@pytest.mark.parametrize("backend", ["reference", *CPU])
@pytest.mark.parametrize(("dynamics", "rule"), [*zip(DYNAMICS, itertools.cycle(["triplet", "none"]))])
def test_cut_in_time_is_the_same(backend, dynamics, rule):
    """The state is complete: it includes spikes that have not arrived."""
    w, theta, x = sample((20, 24), count=1, steps=40)
    spikes = dense(x, 24)
    with force(backend) as on:
        w, theta, spikes = w.to(on.device), theta.to(on.device), spikes.to(on.device)
        arguments = {
            "rule": RULES[rule],
            "tau": 20.0,
            "return_state": True,
            "return_spikes": True,
            **DYNAMICS[dynamics],
            "rest": 0.0,
        }
        if "delays" in arguments:
            arguments["delays"] = delays_to(arguments["delays"], w)
        whole, w_whole, theta_whole = run(CONDUCTANCE, spikes, w, theta, **arguments)
        w_cut, theta_cut, state, raster = w.clone(), theta.clone(), None, []
        for piece in spikes.split([1, 0, 2, 22, 15], dim=1):
            part = CONDUCTANCE(piece, w_cut, theta_cut, state=state, **arguments)
            state = part.state
            raster.append(part.spikes)
        cut = whole._replace(spikes=torch.cat(raster, 1), state=state)
        assert_same((cut, w_cut, theta_cut), (whole, w_whole, theta_whole))
        assert whole.spikes.sum() > 1


@pytest.mark.parametrize("backend", ["reference", *CPU])
def test_rest_is_silence(backend):
    """A presentation with rest equals one with as many steps without input."""
    w, theta, x = sample((20, 24), count=2, steps=40)
    spikes = dense(x, 24)
    silent = torch.cat((spikes, spikes.new_zeros(2, 11, 24)), 1)  # 5.2 ms: partial steps count as whole
    with force(backend) as on:
        w, theta = w.to(on.device), theta.to(on.device)
        arguments = {
            "rule": RULES["triplet"],
            "delays": 20,
            "w_inh_exc": 0.0,
            "refractory": 0.0,
            "return_spikes": True,
            "return_state": True,
        }
        op = CONDUCTANCE
        expected = run(op, silent.to(on.device), w, theta, rest=0.0, **arguments)
        got = run(op, spikes.to(on.device), w, theta, rest=5.2, **arguments)
    assert got[0].spikes.shape == (2, 51, 20)
    assert got[0].spikes[:, 40:].any()  # spikes of before arrive
    assert_same(got, expected)


@pytest.mark.parametrize("backend", ["reference", *CPU])
@pytest.mark.parametrize("rule", ["none", "triplet"])
def test_presentations_go_on_from_a_state(backend, rule):
    """Nothing is reset: they equal one long presentation with pauses in between."""
    w, theta, x = sample((20, 24), count=3, steps=20)
    spikes = dense(x, 24)
    long = torch.cat((spikes, spikes.new_zeros(3, 10, 24)), 1).view(1, 90, 24)
    with force(backend) as on:
        w, theta = w.to(on.device), theta.to(on.device)
        arguments = {"rule": RULES[rule], "delays": 25, "w_inh_exc": 0.1, "return_spikes": True, "return_state": True}
        op = CONDUCTANCE
        state = run(op, spikes[:1].to(on.device), w, theta, **arguments)[0].state
        got, w_got, theta_got = run(op, spikes.to(on.device), w, theta, state=state, **arguments)
        expected, w_expected, theta_expected = run(
            op, long.to(on.device), w, theta, state=state, **{**arguments, "rest": 0.0}
        )
    assert got.spikes.any(2).any(1).sum() > 1
    raster = got.spikes.view(1, 90, 20)
    got = got._replace(spikes=raster, counts=raster.sum(1, dtype=torch.int32))
    assert_same((got, w_got, theta_got), (expected, w_expected, theta_expected))


@pytest.mark.parametrize("backend", ["reference", *CPU])
@pytest.mark.parametrize("layout", ["transposed", "rows", "sliced"])
def test_layouts(backend, layout):
    w, theta, x = sample((35, 28))
    arguments = {"rule": RULES["triplet"], "norm": 5.0, "delays": 5}
    expected, _ = once(by_reference, x, w, theta, **arguments)
    with force(backend) as on:
        x = moved(x, on.device)
        room = torch.full((40, 61), 0.5, dtype=w.dtype, device=on.device)
        if layout == "transposed":
            laid = w.t().contiguous().to(on.device).t()
        else:
            laid = w.to(on.device) if layout == "rows" else room[2:37, 3:59:2]
            laid.copy_(w)
        delays = delays_to(5, w).to(on.device)
        thresholds = theta.to(on.device).clone()
        if layout == "sliced":
            thresholds = torch.stack([theta, theta], 1).to(on.device)[:, 0]
            delays = torch.stack([delays, delays], 2)[..., 1]
        result = CONDUCTANCE(x, laid, thresholds, tau=20.0, rest=5.0, **{**arguments, "delays": delays})
        assert result.counts.any()
        assert_equal(result.counts.cpu(), expected[0].counts)
        assert_equal(laid.cpu(), expected[1])
        assert_equal(thresholds.cpu(), expected[2])
        if layout == "sliced":
            laid.fill_(0.5)
            assert_all(room, 0.5)


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("learns", [True, False])
def test_many_presentations_in_one_call_or_in_many(backend, learns):
    w, theta, x = sample((35, 28), torch.float32, count=40, steps=20)
    arguments = {"rule": RULES["triplet"], "norm": 5.0, "tau": 20.0, "rest": 4.0}
    if not learns:
        arguments |= {"rule": None, "norm": None, "theta_plus": 0.0, "tau_theta": None}
    with force(backend) as on:
        x, w, theta = moved(x, on.device), w.to(on.device), theta.to(on.device)
        arguments["delays"] = delays_to(4, w)
        whole = run(CONDUCTANCE, x, w, theta, **arguments)
        w_cut, theta_cut, counts = w.clone(), theta.clone(), []
        for p in range(0, len(x.hz), 7):
            part = Rates(x.hz[p : p + 7], x.num_steps, x.seeds[p : p + 7])
            counts.append(CONDUCTANCE(part, w_cut, theta_cut, **arguments).counts)
        assert whole[0].counts.any()
        assert_equal(torch.cat(counts), whole[0].counts)
        assert_equal(w_cut, whole[1])
        assert_equal(theta_cut, whole[2])
        assert bool((w_cut == w).all()) is not learns


@pytest.mark.parametrize("name", ["reference", *CPU])
def test_weights_are_normalised_before_the_presentation(name):
    w, theta, x = sample((35, 28))
    w[3] = 0
    with force(name) as on:
        x, w, theta = moved(x, on.device), w.to(on.device), theta.to(on.device)
        still = plasticity.pair(0.0, 0.0)
        _, after, _ = run(CONDUCTANCE, x, w, theta, rule=still, norm=5.0)
        expected = torch.full((35,), 5.0, dtype=w.dtype)
        expected[3] = 0
        torch.testing.assert_close(after.sum(1).cpu(), expected)
        result, after, _ = run(CONDUCTANCE, x, w, theta, rule=RULES["soft bounds"], norm=5.0)
        spiked = (result.counts[1] > 0).cpu()
        off = (after.sum(1).cpu() - expected).abs() > 1e-3
        assert off[spiked].all()
        assert spiked.any()
        assert after.min() >= 0
        assert after.max() <= 1


@pytest.mark.parametrize("name", ["reference", *CPU])
@pytest.mark.parametrize("shape", [(0, 5, 4, 3), (2, 0, 4, 3), (2, 5, 0, 3), (2, 5, 4, 0)], ids=str)
def test_empty(name, shape):
    p, t, i, n = shape
    with force(name) as on:
        w = torch.full((n, i), 0.5, device=on.device)
        result = CONDUCTANCE(
            torch.ones(p, t, i, device=on.device),
            w,
            torch.full((n,), 20.0, dtype=torch.float64, device=on.device),
            rule=plasticity.pair(),
            norm=1.0,
            rest=2.0,
            delays=torch.full((n, i), 2, dtype=torch.uint8, device=on.device),
            return_spikes=True,
            return_state=True,
        )
    assert result.counts.shape == (p, n)
    assert result.counts.sum() == 0
    assert result.spikes.shape == (p, t + 4, n)
    assert result.state.v.shape == (n,)


@pytest.mark.parametrize("name", CPU)
@pytest.mark.parametrize(("form", "carry"), [("spikes", False), ("events", True), ("rates", False)])
def test_opcheck(name, form, carry):
    w, theta, x = sample((6, 8), torch.float32, count=2, steps=9)
    spikes = dense(x, 8)
    x = {"spikes": spikes, "events": Events.from_dense(spikes), "rates": x}[form]
    delays = delays_to(2, w)
    state = REFERENCE(spikes, w, theta, delays=delays, return_state=True).state
    op = CONDUCTANCE
    with force(name) as on:
        x, w, theta, delays, state = (moved(v, on.device) for v in (x, w, theta, delays, state))
        options = {"rule": RULES["pair"], "norm": 3.0, "delays": delays, "rest": 1.5, "return_spikes": True}
        call = op.check(x, w, theta, state=state if carry else None, **options)
        opcheck(on.ops.diehl_cook_conductance_, flatten(call))
