"""STDP of sparse connections: of a linear layer, and of recurrent ones, whose spikes arrive after the delay."""

import pytest
import torch
from samples import assert_equal
from torch import nn

import snnfast
from snnfast import connect, ops, plasticity
from snnfast.learning import STDP
from snnfast.nn import IF, Recurrent, SparseLinear, SparseRecurrent

RULE = plasticity.triplet(0.01, 0.02, trace="all")
C = connect.fixed_indegree(9, 6, indegree=4, seed=1)
AMONG = connect.fixed_indegree(7, indegree=3, seed=1)


def spikes(*shape, seed=0, rate=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def weights(c, seed=2):
    return torch.rand(len(c), generator=torch.Generator().manual_seed(seed))


def test_synapses_of_a_linear_layer_learn_as_in_the_op():
    layer, w = SparseLinear(C, weight=nn.Parameter(weights(C))), weights(C)
    learner, state = STDP(layer, RULE, dt=0.5, reduction="mean", norm=3.0), None
    for seed in (0, 10):
        pre, post = spikes(20, 2, 9, seed=seed), spikes(20, 2, 6, seed=seed + 1)
        learner.run(pre, post)
        state = ops.sparse_stdp_(w, pre, post, C, rule=RULE, dt=0.5, reduction="mean", norm=3.0, state=state)
        assert_equal([layer.weight.detach(), *learner.state[:4]], [w, *state[:4]])
    assert not torch.equal(w, weights(C))


def test_synapses_of_some_neurons_learn():
    layer, w = SparseLinear(C, weight=weights(C)), weights(C)
    layer.weight[C.out_of(range(4, 9))] -= 3
    w[C.out_of(range(4, 9))] -= 3
    learner, pre, post = STDP(layer, RULE, sources=range(4), norm=2.0), spikes(20, 2, 9), spikes(20, 2, 6)
    learner.run(pre, post)
    ops.sparse_stdp_(w, pre, post, C, rule=RULE, sources=range(4), norm=2.0)
    assert_equal([layer.weight], [w])
    with pytest.raises(ValueError, match=r"STDP: sources must be None for a Linear, got range\(0, 4\)"):
        STDP(nn.Linear(3, 2), RULE, sources=range(4))


MODULATED = plasticity.reward_modulated(RULE, 5.0)


def test_a_reward_changes_synapses_as_it_changes_a_matrix():
    c = connect.from_dense(torch.ones(6, 9))
    pre, post = c.edges()
    matrix = torch.rand(6, 9, generator=torch.Generator().manual_seed(3))
    dense, sparse = nn.Linear(9, 6), SparseLinear(c, weight=matrix[post, pre])
    dense.weight.data.copy_(matrix)
    for layer in (dense, sparse):
        learner = STDP(layer, MODULATED, norm=3.0, reduction="mean")
        learner.run(spikes(20, 2, 9), spikes(20, 2, 6, seed=1))
        learner.reward(torch.tensor([0.5, -2.0]))
        learner.run(spikes(20, 2, 9, seed=2), spikes(20, 2, 6, seed=3), 0.25)
    assert_equal([dense.weight.detach()[post, pre]], [sparse.weight])
    assert not torch.equal(dense.weight, matrix)


def test_a_rule_of_ones_own_changes_synapses():
    rule = plasticity.OwnRule(lambda s: 0.1 * s.s_post * s.x_pre * s.v_post - 0.01 * s.s_pre)
    layer, w, v = SparseLinear(C, weight=weights(C)), weights(C), spikes(20, 2, 6, seed=4) - 0.25
    pre, post = spikes(20, 2, 9), spikes(20, 2, 6, seed=1)
    STDP(layer, rule, norm=2.0).run(pre, post, v_post=v)
    ops.sparse_stdp_(w, pre, post, C, rule=rule, norm=2.0, v_post=v)
    assert_equal([layer.weight], [w])
    assert not torch.equal(w, weights(C))
    recurrent, w = SparseRecurrent(IF(), AMONG, weight=weights(AMONG)), weights(AMONG)
    without = plasticity.OwnRule(lambda s: 0.1 * s.s_post * s.x_pre - 0.01 * s.s_pre)
    STDP(recurrent, without, update="sequence").listen(recurrent)
    post = recurrent(spikes(9, 2, 7, rate=0.6))
    arrived = torch.cat([torch.zeros(1, 2, 7), post])[:-1]
    ops.sparse_stdp_(w, arrived, post, AMONG, rule=without, update="sequence")
    assert_equal([recurrent.weight], [w])


def test_a_reward_follows_a_call_of_recurrent_neurons():
    c, x = AMONG.with_delay(2), spikes(15, 2, 7, rate=0.6)
    layer = SparseRecurrent(IF(stateful=True), c, weight=weights(c))
    layer.weight[c.out_of(range(5))] -= 3
    learner = STDP(layer, MODULATED, sources=range(5, 7), norm=1.0)
    learner.listen(layer)
    before = layer.weight.clone()
    post = layer(x)
    arrived = torch.cat([torch.zeros(2, 2, 7), post])[:-2]
    w = before.clone()
    how = {"rule": MODULATED, "sources": range(5, 7), "norm": 1.0}
    state = ops.sparse_stdp_(w, arrived, post, c, reward=0.0, **how)
    assert_equal([layer.weight, *learner.state], [w, *state])
    learner.reward(0.5)
    chosen = c.out_of(range(5, 7))
    w[chosen] = (w[chosen] + 0.5 * state.eligibility.sum(0)[chosen]).clamp(0, 1)
    ops.sparse_stdp_(w, arrived[:0], post[:0], c, reward=0.0, **how)
    torch.testing.assert_close(layer.weight, w)
    assert_equal([layer.weight[: chosen.start]], [before[: chosen.start]])
    assert not torch.equal(layer.weight, before)


def test_a_network_that_listens_learns_as_by_run():
    layer, w = SparseLinear(C, weight=weights(C)), weights(C)
    net = nn.Sequential(layer, IF())
    STDP(layer, RULE).listen(net[1])
    pre = spikes(20, 2, 9)
    post = net(pre)
    ops.sparse_stdp_(w, pre, post, C, rule=RULE)
    assert_equal([layer.weight], [w])
    net.eval()(pre)
    assert_equal([layer.weight], [w])


def test_recurrent_synapses_of_all_neurons_learn_as_the_matrix():
    c = connect.from_dense(torch.ones(7, 7))
    pre, post = c.edges()
    matrix = torch.rand(7, 7, generator=torch.Generator().manual_seed(3))
    dense = Recurrent(IF(stateful=True), 7, weight=matrix)
    sparse = SparseRecurrent(IF(stateful=True), c, weight=matrix[post, pre])
    for layer in (dense, sparse):
        STDP(layer, RULE, update="sequence").listen(layer)
    for seed in range(3):
        x = spikes(15, 2, 7, seed=seed)
        assert_equal([dense(x)], [sparse(x)])
        assert_equal([dense.weight[post, pre]], [sparse.weight])
    assert not torch.equal(dense.weight, matrix)


def learned_step_by_step(c, w, x, norm=None, **how):
    """Return spikes, weights and state of as many calls of one step, each followed by plasticity."""
    layer, sent, state = SparseRecurrent(IF(stateful=True), c, weight=w), [], None
    for current in x:
        sent.append(layer(current[None]))
        arrived = sent[-1 - c.longest] if len(sent) > c.longest else torch.zeros_like(sent[0])
        state = ops.sparse_stdp_(layer.weight, arrived, sent[-1], c, rule=RULE, state=state, **how)
    return torch.cat(sent), layer.weight, state


@pytest.mark.parametrize("delay", [1, 4])
def test_recurrent_synapses_learn_within_a_call(delay):
    c, x = AMONG.with_delay(delay), spikes(30, 2, 7, rate=0.6)
    layer = SparseRecurrent(IF(stateful=True), c, weight=nn.Parameter(weights(c)))
    learner = STDP(layer, RULE, dt=0.5, reduction="mean", sources=range(1, 7))
    learner.listen(layer)
    found = torch.cat([layer(x[:11]), layer(x[11:12]), layer(x[12:])])
    want, w, state = learned_step_by_step(c, weights(c), x, dt=0.5, reduction="mean", sources=range(1, 7))
    assert_equal([found, layer.weight.detach(), *learner.state[:4]], [want, w, *state[:4]])
    assert not torch.equal(w, weights(c))
    layer.eval()(x)
    assert_equal([layer.weight.detach()], [w])


def test_recurrent_weights_are_scaled_after_the_call():
    c, x = AMONG.with_delay(2), spikes(9, 2, 7, rate=0.6)
    layer = SparseRecurrent(IF(stateful=True), c, weight=weights(c))
    learner = STDP(layer, RULE, norm=1.0)
    handle = learner.listen(layer)
    found = layer(x)
    want, w, state = learned_step_by_step(c, weights(c), x)
    rest = torch.zeros(0, 2, 7)
    ops.sparse_stdp_(w, rest, rest, c, rule=RULE, state=state, norm=1.0)
    assert_equal([found, layer.weight, *learner.state[:4]], [want, w, *state[:4]])
    handle.remove()
    layer(x)
    assert_equal([layer.weight], [w])


@pytest.mark.parametrize("update", ["step", "sequence"])
def test_each_receptor_has_the_spikes_of_its_neuron(update):
    @snnfast.neuron(inputs=2)
    def two(fire, x, y, v, *, decay=0.9):
        s, _, after = fire(decay * v + x - 0.5 * y, 1.0)
        return s, after

    c = connect.fixed_indegree(7, 14, indegree=3, seed=1).with_delay(2)
    layer = SparseRecurrent(two.layer(stateful=True), c, weight=weights(c))
    learner = STDP(layer, RULE, update=update, norm=2.0)
    learner.listen(layer)
    x = spikes(12, 2, 7, rate=0.8)
    post = layer((x, x * 0.1))
    arrived = torch.cat([torch.zeros(2, 2, 7), post])[:-2]
    w = weights(c)
    state = ops.sparse_stdp_(w, arrived, post.repeat(1, 1, 2), c, rule=RULE, update=update, norm=2.0)
    of_neurons = [*learner.state[:2], *(trace[:, :7] for trace in learner.state[2:4])]
    assert_equal([layer.weight, *of_neurons], [w, *state[:2], *(trace[:, :7] for trace in state[2:4])])
    assert not torch.equal(w, weights(c))


@pytest.mark.parametrize("steps", [2, 15])
def test_with_a_sequence_recurrent_weights_change_after_the_call(steps):
    c = AMONG.with_delay(4)
    layer, w, state, sent = SparseRecurrent(IF(stateful=True), c, weight=weights(c)), weights(c), None, []
    STDP(layer, RULE, update="sequence").listen(layer)
    for seed in range(3):
        sent.append(layer(spikes(steps, 2, 7, seed=seed, rate=0.6)))
        arrived = torch.cat([torch.zeros(4, 2, 7), *sent])[-4 - steps : -4]
        state = ops.sparse_stdp_(w, arrived, sent[-1], c, rule=RULE, state=state, update="sequence")
        assert_equal([layer.weight], [w])
    snnfast.nn.reset(layer)
    spikes_of_noise = layer(None, num_steps=9, batch=2, noise=connect.PoissonNoise(1.0, 0.5, seed=1))
    arrived = torch.cat([torch.zeros(4, 2, 7), spikes_of_noise])[:9]
    ops.sparse_stdp_(w, arrived, spikes_of_noise, c, rule=RULE, state=state, update="sequence")
    assert_equal([layer.weight], [w])


def test_what_synapses_cannot_learn_is_an_error():
    with pytest.raises(ValueError, match=r"STDP: linear.weight must have shape \[24\], one for each synapse, got 0.5"):
        STDP(SparseLinear(C, weight=0.5), RULE)
    with pytest.raises(ValueError, match=r"STDP: linear.weight must have shape \[24\], .* got \[9\]"):
        STDP(SparseLinear(C, weight=torch.ones(9)), RULE)
    with pytest.raises(ValueError, match=r"STDP: linear.weight must lie in \[0, 1\]"):
        STDP(SparseLinear(C), RULE)
    pre, post = spikes(5, 2, 9), spikes(5, 2, 6)
    with pytest.raises(ValueError, match="sparse_stdp_: reward must be None, since rule is not reward-modulated"):
        STDP(SparseLinear(C, weight=weights(C)), RULE).run(pre, post, 1.0)
    several = AMONG.with_delay(torch.arange(len(AMONG)) % 2 + 1)
    layer = SparseRecurrent(IF(), several, weight=weights(several))
    STDP(layer, RULE).listen(layer)
    with pytest.raises(ValueError, match="sparse_recurrent: connectivity must have the same delay everywhere"):
        layer(spikes(5, 2, 7))
    by_rule = SparseRecurrent(IF(), AMONG, weight=weights(AMONG))
    STDP(by_rule, plasticity.OwnRule(lambda s: s.w)).listen(by_rule)
    with pytest.raises(TypeError, match=r"Online: rule must be .* no OwnRule, got OwnRule"):
        by_rule(spikes(5, 2, 7))
    many = SparseRecurrent(IF(), AMONG, weight=weights(AMONG))
    STDP(many, RULE).listen(many)
    with pytest.raises(ValueError, match=r"at most 16 samples with plasticity, got 17; .*update='sequence'"):
        many(spikes(5, 17, 7))
    with pytest.raises(ValueError, match="plasticity has no gradient"):
        many(spikes(5, 2, 7).requires_grad_())
