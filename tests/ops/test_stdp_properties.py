"""Properties of plasticity that hold for any spikes, weights and rule."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from snnfast import ops, plasticity, reference

rates = st.floats(0, 2)
taus = st.floats(0.5, 1e3)
traces = st.sampled_from(["nearest", "all"])
bounds = st.tuples(st.floats(-3, 0), st.floats(0.1, 3)).map(lambda b: {"w_min": b[0], "w_max": b[1]})


@st.composite
def rules(draw, additive=False):
    shared = draw(bounds) | {"trace": draw(traces), "tau_pre": draw(taus)}
    both = shared | {"tau_post": draw(taus)}
    lr_pre, lr_post = draw(rates), draw(rates)
    made = [
        plasticity.pair(lr_pre, lr_post, **both),
        plasticity.triplet(lr_pre, lr_post, lr_pre_triplet=draw(rates), lr_post_pair=draw(rates), **both),
    ]
    if not additive:
        mu, x_tar = draw(st.floats(0, 3)), draw(st.floats(0, 2))
        made += [
            plasticity.soft_bounds(lr_pre, lr_post, **both),
            plasticity.power_law(lr_post, x_tar=x_tar, mu=mu, **shared),
            plasticity.exponential(lr_post, x_tar=x_tar, beta=draw(st.floats(0, 5)), **shared),
            plasticity.pre_post(lr_pre, lr_post, x_tar=x_tar, mu=mu, **both),
        ]
    rule = draw(st.sampled_from(made))
    if not additive and draw(st.booleans()):
        rule = plasticity.reward_modulated(rule, draw(taus))
    return rule


ANY = rules()


@st.composite
def runs(draw, rules=ANY, dtypes=(torch.float64, torch.float32)):
    """Weights, spikes and keyword arguments for any rule and shape."""
    rule, dtype = draw(rules), draw(st.sampled_from(dtypes))
    num_steps, batch = draw(st.integers(0, 12)), draw(st.integers(0, 4))
    n_pre, n_post = draw(st.integers(0, 40)), draw(st.integers(0, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    density = draw(st.sampled_from([0.02, 0.2, 0.9]))
    w = torch.rand((n_post, n_pre), generator=generator, dtype=dtype)
    w = (rule.w_min + (rule.w_max - rule.w_min) * w).clamp(rule.w_min, rule.w_max)
    pre = torch.rand((num_steps, batch, n_pre), generator=generator) < density
    post = torch.rand((num_steps, batch, n_post), generator=generator) < density
    arguments = {"rule": rule, "reduction": draw(st.sampled_from(["sum", "mean"]))}
    if rule.tau_eligibility is not None:
        arguments["reward"] = torch.randn((num_steps, batch), generator=generator, dtype=dtype)
    return w, pre, post, arguments


def part(arguments, index):
    """The arguments for a part of the steps, or of the batch."""
    return arguments | ({"reward": arguments["reward"][index]} if "reward" in arguments else {})


@given(runs(), st.sampled_from(["step", "sequence"]), st.sampled_from([None, 0.5, 20.0]))
def test_weights_stay_in_bounds(run, update, norm):
    w, pre, post, arguments = run
    ops.stdp_(w, pre, post, update=update, norm=norm, **arguments)
    rule = arguments["rule"]
    assert ((w >= torch.tensor(rule.w_min, dtype=w.dtype)) & (w <= torch.tensor(rule.w_max, dtype=w.dtype))).all()


@given(runs(dtypes=(torch.float64,)), st.sampled_from(["step", "sequence"]), st.sampled_from([None, 2.0]))
def test_equals_the_reference(run, update, norm):
    w, pre, post, arguments = run
    expected = w.clone()
    after = reference.stdp_(expected, pre, post, update=update, norm=norm, **arguments)
    state = ops.stdp_(w, pre, post, update=update, norm=norm, **arguments)
    torch.testing.assert_close(w, expected, rtol=0, atol=0)
    for a, b in zip(state, after, strict=True):
        if a is not None or b is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@given(runs(), st.integers(0, 12))
def test_cut_in_two_is_the_same(run, cut):
    w, pre, post, arguments = run
    whole = w.clone()
    after = ops.stdp_(whole, pre, post, **arguments)
    first, second = slice(None, cut), slice(cut, None)
    state = ops.stdp_(w, pre[first], post[first], **part(arguments, first))
    state = ops.stdp_(w, pre[second], post[second], state=state, **part(arguments, second))
    torch.testing.assert_close(w, whole, rtol=0, atol=0)
    for a, b in zip(state, after, strict=True):
        if a is not None or b is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@given(runs(dtypes=(torch.float64,)), st.sampled_from(["step", "sequence"]), st.randoms())
def test_order_of_samples_does_not_matter(run, update, random):
    w, pre, post, arguments = run
    shuffled, order = w.clone(), list(range(pre.shape[1]))
    random.shuffle(order)
    ops.stdp_(w, pre, post, update=update, **arguments)
    reward = {"reward": arguments["reward"][:, order]} if "reward" in arguments else {}
    ops.stdp_(shuffled, pre[:, order], post[:, order], update=update, **arguments | reward)
    torch.testing.assert_close(shuffled, w, rtol=1e-9, atol=1e-9)


@given(runs(rules(additive=True), (torch.float64,)), st.randoms())
def test_samples_add_up(run, random):
    """For a rule without weight and far from the bounds the batch changes what its samples would change alone."""
    w, pre, post, arguments = run
    wide = {"w_min": -1e6, "w_max": 1e6}
    rule = plasticity.Rule(**{**vars(arguments["rule"]), **wide})
    together, update = w.clone(), random.choice(["step", "sequence"])
    ops.stdp_(together, pre, post, rule=rule, update=update)
    alone = torch.zeros_like(w)
    for b in range(pre.shape[1]):
        one = w.clone()
        ops.stdp_(one, pre[:, b : b + 1], post[:, b : b + 1], rule=rule)
        alone += one - w
    torch.testing.assert_close(together - w, alone, rtol=1e-9, atol=1e-8)
