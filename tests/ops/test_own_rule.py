"""Custom learning rules: the compiled kernel equals the reference and the package's rules written as equations."""

import math
import warnings

import pytest
import torch
from samples import assert_equal

from snnfast import backend, ops, plasticity
from snnfast.compiler import build
from snnfast.ops import own_rule

T, B, PRE, POST = 20, 3, 70, 40


def spikes(neurons, seed, rate=0.2):
    return torch.rand(T, B, neurons, generator=torch.Generator().manual_seed(seed)) < rate


PRE_SPIKES, POST_SPIKES = spikes(PRE, 0), spikes(POST, 1)


def weights(dtype):
    generator = torch.Generator().manual_seed(2)
    return 0.2 + 0.6 * torch.rand(POST, PRE, generator=generator, dtype=torch.float64).to(dtype)


def pair(s):
    s_pre = s.s_pre * 1.0  # a local variable named like an argument
    return 0.02 * s.s_post * s.x_pre - 0.01 * s_pre * s.x_post


def triplet(s):
    up = s.s_post * s.x_pre * (0.001 + 0.01 * s.x_post2)
    return up - s.s_pre * s.x_post * (0.002 + 0.003 * s.x_pre2)


def soft_bounds(s):
    return 0.02 * s.s_post * s.x_pre * (1 - s.w) - 0.01 * s.s_pre * s.x_post * s.w


def at_spikes(s):
    """Rule whose spikes are conditions."""
    up = torch.where(s.s_post > 0, 0.02 * s.x_pre * torch.exp(-s.w), 0.0)
    return up - torch.where(s.s_pre == 0, 0.0, 0.01) * (s.x_post + s.x_post2**2) / 2


def homeostasis(s):
    """Rule with a change without a presynaptic spike, at every step."""
    return 0.01 * s.s_post * s.x_pre - 0.001 * (1 - s.s_pre) * s.w


def quotient(s):
    """Rule whose change could be 0 times infinity."""
    return 1e-3 * s.s_post * s.x_pre * (1 / (s.x_post + s.w))


def decay(s):
    """Rule with a change without spikes, a condition, an exponential and a reward."""
    leak = torch.where(s.w > 0.5, -0.01, 0.001) * torch.exp(-s.w)
    return leak + s.reward * torch.relu(s.x_pre - s.x_post)


KNOWN = {
    pair: plasticity.pair(0.01, 0.02),
    triplet: plasticity.triplet(0.002, 0.01, lr_pre_triplet=0.003, lr_post_pair=0.001),
    soft_bounds: plasticity.soft_bounds(0.01, 0.02),
}
HOW = {
    "step": {},
    "sequence": {"update": "sequence"},
    "mean": {"reduction": "mean", "norm": 20.0},
    "reward": {"reward": torch.linspace(-1, 1, T)},
}

BOTH = list(zip(HOW, [torch.float32, torch.float64, torch.float64, torch.float32]))  # a kernel is compiled for a dtype


def run(rule, dtype, backend_name, how, w=None, steps=slice(None), state=None):
    w = weights(dtype) if w is None else w
    reward = {"reward": how["reward"][steps].to(dtype)} if "reward" in how else {}
    with backend.use(backend_name), warnings.catch_warnings():
        warnings.simplefilter("error")
        arguments = {"rule": rule, "state": state, **how, **reward}
        return w, ops.stdp_(w, PRE_SPIKES[steps], POST_SPIKES[steps], **arguments)


def same(first, other):
    for a, b in zip((first[0], *first[1]), (other[0], *other[1])):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(("how", "dtype"), BOTH)
@pytest.mark.parametrize("change", [*KNOWN, at_spikes, homeostasis, quotient, decay])
def test_the_kernel_has_the_bits_of_the_reference(change, how, dtype):
    rule = plasticity.OwnRule(change)
    if how == "reward" and change in KNOWN:
        rule = plasticity.reward_modulated(rule, 50.0)
    found = run(rule, dtype, "cpu", HOW[how])
    same(found, run(rule, dtype, "reference", HOW[how]))
    assert (found[0] - weights(dtype)).abs().max() > 1e-3


def signals(dtype=torch.float64):
    """Return signals of neurons: two of postsynaptic ones, and one of presynaptic ones with other strides."""
    generator = torch.Generator().manual_seed(5)
    v_post, v_slow_post = torch.randn(2, T, B, POST, generator=generator, dtype=torch.float64).to(dtype)
    v_pre = torch.randn(B, T, PRE, generator=generator, dtype=torch.float64).to(dtype).transpose(0, 1)
    return {"v_post": v_post, "v_pre": v_pre, "v_slow_post": v_slow_post}


def clopath(s):
    """Rule of Clopath et al. 2010, with signals of postsynaptic neurons, which changes weights without spikes."""
    down = 0.01 * s.s_pre * torch.relu(s.v_slow_post - 0.1)
    return 0.02 * s.x_pre * torch.relu(s.v_post - 0.5) * torch.relu(s.v_slow_post - 0.1) - down


def depolarized(s):
    """Rule that changes weights at spikes alone."""
    signal_0 = s.s_pre * 1.0  # a local variable named like one of the source
    return 0.02 * (s.s_post - signal_0) * torch.where(s.v_post > 0.2, s.w, 0.3)


def of_both_sides(s):
    """Rule whose signals are read in another order than that of their names."""
    return 0.01 * torch.tanh(s.v_slow_post * s.v_pre) * s.w + 0.01 * s.s_pre * (s.v_post - s.w)


READS = {
    clopath: ("v_slow_post", "v_post"),
    depolarized: ("v_post",),
    of_both_sides: ("v_slow_post", "v_pre", "v_post"),
}


@pytest.mark.parametrize(("how", "dtype"), BOTH)
@pytest.mark.parametrize("change", READS)
def test_with_signals_the_kernel_has_the_bits_of_the_reference(change, how, dtype):
    rule = plasticity.OwnRule(change)
    rule = plasticity.reward_modulated(rule, 50.0) if how == "reward" else rule
    arguments = HOW[how] | {name: signals(dtype)[name].requires_grad_() for name in READS[change]}
    found = run(rule, dtype, "cpu", arguments)
    same(found, run(rule, dtype, "reference", arguments))
    assert (found[0] - weights(dtype)).abs().max() > 1e-3


def test_clopath_by_hand():
    rule, arguments = plasticity.OwnRule(clopath, trace="all"), {name: signals()[name] for name in READS[clopath]}
    found = run(rule, torch.float64, "cpu", arguments)
    w, x = weights(torch.float64).tolist(), [[0.0] * PRE for _ in range(B)]
    v, slow = signals()["v_post"].tolist(), signals()["v_slow_post"].tolist()
    pre = PRE_SPIKES.tolist()
    for t in range(T):
        x = [[x[b][i] * math.exp(-1 / 20) + pre[t][b][i] for i in range(PRE)] for b in range(B)]
        for j in range(POST):
            for i in range(PRE):
                change = 0.0
                for b in range(B):
                    depolarized = max(slow[t][b][j] - 0.1, 0)
                    change += 0.02 * x[b][i] * max(v[t][b][j] - 0.5, 0) * depolarized
                    change -= 0.01 * pre[t][b][i] * depolarized
                w[j][i] = min(max(w[j][i] + change, 0.0), 1.0)
    torch.testing.assert_close(found[0], torch.tensor(w, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert (found[0] - weights(torch.float64)).abs().max() > 0.1


EVERY_NAME = "w, s_pre, s_post, x_pre, x_post, x_pre2, x_post2, reward"
V_POST, V_PRE = signals()["v_post"], signals()["v_pre"]


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (depolarized, {}, AttributeError, f"OwnRule: change reads v_post, but has {EVERY_NAME}; .* v_post="),
        (depolarized, {"u_post": V_POST}, AttributeError, f"reads v_post, but has {EVERY_NAME}, u_post;"),
        (pair, {"v_post": V_POST}, TypeError, "OwnRule: change does not read v_post; of the signals .* it reads none"),
        (depolarized, {"v_post": V_POST, "v_pre": V_PRE}, TypeError, "change does not read v_pre; .* it reads v_post"),
        (depolarized, {"v_post": V_PRE}, ValueError, rf"v_post must have shape \[{T}, {B}, {POST}\], got \[{T}, "),
        (depolarized, {"v_post": V_POST.float()}, TypeError, "v_post must have dtype torch.float64, got torch.float32"),
        (depolarized, {"v_post": V_POST.to("meta")}, ValueError, "v_post must be on the device of w, cpu, got meta"),
        (depolarized, {"v_post": 3.0}, TypeError, "v_post must be a tensor, got float"),
        (depolarized, {"v_post": V_POST / 0}, ValueError, "v_post must be finite, got NaN or infinity"),
        (depolarized, {"v": V_POST}, TypeError, "there is no argument 'v'; a name of a signal ends in _pre or _post"),
        (pair, {"x_pre": V_PRE}, TypeError, f"there is no argument 'x_pre'; .* none of {EVERY_NAME}"),
        (pair, {"updat": "step"}, TypeError, "there is no argument 'updat'; did you mean 'update'"),
    ],
)
@pytest.mark.parametrize("backend_name", ["cpu", "reference"])
def test_errors_of_signals(backend_name, change, arguments, error, message):
    w = weights(torch.float64)
    with pytest.raises(error, match=message):
        run(plasticity.OwnRule(change), torch.float64, backend_name, arguments, w)
    torch.testing.assert_close(w, weights(torch.float64), rtol=0, atol=0)


def test_rules_of_the_package_read_no_signals():
    with pytest.raises(TypeError, match=r"^stdp_: v_post must be left out: a plasticity\.OwnRule reads signals"):
        run(plasticity.pair(), torch.float64, "cpu", {"v_post": V_POST})


def test_an_error_of_a_later_step_changes_no_weight(monkeypatch):
    monkeypatch.setattr(backend, "_warned", set())
    steps = iter(range(3))

    def fails(s):
        if bool((s.w >= 0).all()) and next(steps) == 2:
            raise RuntimeError("later")
        return 0.01 * s.s_post * s.x_pre

    w = weights(torch.float64)
    with backend.use("reference"), pytest.raises(RuntimeError, match="later"):
        ops.stdp_(w, PRE_SPIKES, POST_SPIKES, rule=plasticity.OwnRule(fails))
    torch.testing.assert_close(w, weights(torch.float64), rtol=0, atol=0)


@pytest.mark.parametrize("rule", [plasticity.pair(), plasticity.OwnRule(pair)])
def test_a_membrane_is_no_spike_train(rule):
    w = weights(torch.float64)
    with pytest.raises(ValueError, match=r"^stdp_: post must be spikes, 0 or 1, got values from -.* as v_post="):
        ops.stdp_(w, PRE_SPIKES, V_POST, rule=rule)
    with pytest.raises(ValueError, match=r"^stdp_: pre must be spikes, 0 or 1, got values from 0 to 2; .* as v_pre="):
        ops.stdp_(w, 2 * PRE_SPIKES.float(), POST_SPIKES, rule=rule)
    torch.testing.assert_close(w, weights(torch.float64), rtol=0, atol=0)
    ops.stdp_(w, 2 * PRE_SPIKES.byte(), POST_SPIKES.float(), rule=rule)
    assert_equal(w, run(rule, torch.float64, "cpu", {})[0])


def test_rules_that_need_spikes_skip_the_other_synapses():
    expected = {pair: True, soft_bounds: True, at_spikes: True}
    expected |= dict.fromkeys((homeostasis, quotient, decay, clopath), False)
    for change, skips in (expected | {depolarized: True}).items():
        constants = plasticity.OwnRule(change).constants(1.0)
        constants.signals = dict.fromkeys(sorted(READS.get(change, ())))
        source = own_rule._source(constants, torch.float32)
        assert f"needs_spikes = {str(skips).lower()}" in source, change.__name__


@pytest.mark.parametrize("how", ["step", "sequence"])
def test_few_spikes_and_weights_out_of_bounds(how):
    """Where spikes are few, single weights are updated; the first step clamps all of them."""
    pre, post, w = spikes(PRE, 3, 0.02), spikes(POST, 4, 0.02), {}
    for name in ("cpu", "reference"):
        w[name] = 4 * weights(torch.float64) - 1
        with backend.use(name):
            ops.stdp_(w[name], pre, post, rule=plasticity.OwnRule(pair), validate=False, update=how)
    torch.testing.assert_close(w["cpu"], w["reference"], rtol=0, atol=0)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("change", KNOWN)
def test_rules_of_the_package_as_equations(change, how):
    known, written = KNOWN[change], plasticity.OwnRule(change)
    if how == "reward":
        known, written = (plasticity.reward_modulated(rule, 50.0) for rule in (known, written))
    w, state = run(known, torch.float64, "cpu", HOW[how])
    found, of_own = run(written, torch.float64, "cpu", HOW[how])
    torch.testing.assert_close(found, w, rtol=1e-12, atol=1e-12)
    for a, b in zip(of_own, state):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_parts_and_strides_change_nothing():
    rule = plasticity.reward_modulated(plasticity.OwnRule(triplet), 50.0)
    whole = run(rule, torch.float32, "cpu", HOW["reward"])
    wide = weights(torch.float32).repeat_interleave(2, 1)[:, ::2]
    _, state = run(rule, torch.float32, "cpu", HOW["reward"], wide, slice(0, 9))
    before = [None if value is None else value.clone() for value in state]
    same((wide, run(rule, torch.float32, "cpu", HOW["reward"], wide, slice(9, T), state)[1]), whole)
    for value, expected in zip(state, before):
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize("change", [pair, decay])
def test_threads_change_nothing(change):
    """With as many rows a thread takes a part of them."""
    post, found = POST_SPIKES.repeat(1, 1, 5), []
    before = torch.get_num_threads()
    for threads in (1, 3):
        w = weights(torch.float64).repeat(5, 1)
        torch.set_num_threads(threads)
        with backend.use("cpu"):
            ops.stdp_(w, PRE_SPIKES, post, rule=plasticity.OwnRule(change), reward=0.5)
        found.append(w)
    torch.set_num_threads(before)
    assert_equal(*found)
    assert (found[0] - weights(torch.float64).repeat(5, 1)).abs().max() > 1e-3


def raw_arguments(change=decay, signals=None):
    """Return arguments of the operator, for a rule that a call has loaded."""
    rule, signals = plasticity.OwnRule(change), signals or {}
    run(rule, torch.float64, "cpu", signals)
    constants = rule.constants(1.0)
    constants.signals = signals
    path = build.library("own_rule", own_rule._source(constants, torch.float64))
    w, pre, post = weights(torch.float64), PRE_SPIKES.double(), POST_SPIKES.double()
    reward, eligibility = torch.rand(T, B).double(), torch.zeros(B, POST, PRE).double()
    return [
        w,
        path.stem,
        pre,
        pre * 0.5,
        pre * 0.25,
        post,
        post * 0.5,
        post * 0.25,
        reward,
        list(signals.values()),
        eligibility,
        True,
        0.9,
        1.0,
        0.0,
        1.0,
        *(None, None, None, 0, 0),  # weights of a matrix
    ]


def test_opcheck():
    torch.library.opcheck(torch.ops.snnfast.own_rule_.default, raw_arguments())
    with_signal = [*raw_arguments(depolarized, {"v_post": signals()["v_post"]})]
    torch.library.opcheck(torch.ops.snnfast.own_rule_.default, with_signal)


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        (0, torch.rand(POST, PRE), "s_pre must be float32, got float64"),
        (0, torch.rand(PRE, POST).double().T, "w must have contiguous rows"),
        (1, "nothing", "the kernel nothing is not loaded in this process; import the module that defines the rule"),
        (2, torch.rand(T, PRE).double(), "s_pre must have shape"),
        (5, torch.rand(T, B, PRE).double(), "s_post must have shape"),
        (9, [torch.rand(T, B, POST).double()], "the kernel own_rule-.* has 0 signals, got 1"),
        (10, torch.zeros(B, PRE, POST).double(), "eligibility must have shape"),
    ],
)
def test_raw_calls_are_checked(place, value, error):
    arguments = raw_arguments()
    arguments[place] = value
    with pytest.raises(RuntimeError, match=f"own_rule_: {error}"):
        torch.ops.snnfast.own_rule_(*arguments)


def test_numbers_from_outside_are_read_at_every_call():
    rate = {"lr": 0.01}
    rule = plasticity.OwnRule(lambda s: rate["lr"] * s.s_post * s.x_pre)
    first = run(rule, torch.float64, "cpu", {})[0]
    rate["lr"] = 0.0
    torch.testing.assert_close(run(rule, torch.float64, "cpu", {})[0], weights(torch.float64))
    assert (first - weights(torch.float64)).abs().max() > 1e-3


def refused(monkeypatch, change, match):
    monkeypatch.setattr(backend, "_warned", set())
    w, want = (weights(torch.float64), run(plasticity.OwnRule(change), torch.float64, "reference", {}))
    with pytest.warns(backend.BackendWarning, match=match):
        ops.stdp_(w, PRE_SPIKES, POST_SPIKES, rule=plasticity.OwnRule(change))
    torch.testing.assert_close(w, want[0], rtol=0, atol=0)
    with pytest.raises(backend.BackendError, match="backend 'cpu' was asked for, but"):
        run(plasticity.OwnRule(change), torch.float64, "cpu", {})


def test_what_cannot_be_compiled_runs_in_pytorch(monkeypatch):
    def of_all_weights(s):
        return 0.01 * s.s_post * (s.w.mean() - s.w)

    refused(monkeypatch, of_all_weights, r"a rule of your own runs in plain PyTorch.*mean")

    def branches(s):
        return 0.01 * s.s_post * s.x_pre if (s.w >= 0).all() else 0 * s.w

    refused(monkeypatch, branches, "a rule of your own runs in plain PyTorch")


def test_a_broken_compiler_leaves_the_reference(monkeypatch, tmp_path):
    monkeypatch.setenv("SNNFAST_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setattr(build, "_failed", {})
    build._compiler.cache_clear()
    try:
        refused(monkeypatch, lambda s: 0.0123 * s.s_post * s.x_pre, "false")
    finally:
        build._compiler.cache_clear()


def test_compiled_programs_run_the_kernel(monkeypatch):
    calls = []
    kernel = own_rule._by_kernel
    monkeypatch.setattr(own_rule, "_by_kernel", lambda *arguments: calls.append(1) or kernel(*arguments))
    rule = plasticity.OwnRule(pair)

    @torch.compile(backend="eager")
    def learn(w):
        return ops.stdp_(w, PRE_SPIKES, POST_SPIKES, rule=rule)

    w = weights(torch.float64)
    found = w, learn(w)
    assert calls
    same(found, run(rule, torch.float64, "reference", {}))


def test_errors_and_no_steps():
    rule = plasticity.OwnRule(pair)
    with pytest.raises(ValueError, match=r"^stdp_: w must lie in \[0, 1\]"):
        run(rule, torch.float64, "cpu", {}, 2 * weights(torch.float64))
    with pytest.raises(ValueError, match=r"^stdp_: reward must be given, since rule is reward-modul"):
        run(plasticity.reward_modulated(rule), torch.float64, "cpu", {})
    with pytest.raises(TypeError, match=r"^stdp_: rule must be a rule of snnfast.plasticity, got fun"):
        run(pair, torch.float64, "cpu", {})
    w, state = run(rule, torch.float64, "cpu", {}, steps=slice(0, 0))
    torch.testing.assert_close(w, weights(torch.float64), rtol=0, atol=0)
    assert state.trace_pre.shape == (B, PRE)
