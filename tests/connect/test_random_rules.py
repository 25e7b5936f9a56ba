"""``snnfast.connect``: random connections, their counts, their distribution and their seeds."""

import numpy as np
import pytest
import torch
from samples import assert_equal

from snnfast import connect

RULES = {
    "indegree": lambda **more: connect.fixed_indegree(50, indegree=12, **more),
    "outdegree": lambda **more: connect.fixed_outdegree(50, outdegree=12, **more),
    "probability": lambda **more: connect.fixed_probability(50, probability=0.24, **more),
    "total": lambda **more: connect.fixed_total(50, total=600, **more),
}
# The first targets of three rules, and of distinct targets.
WANT = [[7, 16, 21, 22, 24, 25], [1, 2, 7, 8, 12, 13], [0, 1, 4, 10, 19, 25], [1, 2, 6, 8, 11, 12]]
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def same(first, other):
    return torch.equal(first.first, other.first) and torch.equal(first.edges()[1], other.edges()[1])


@each_rule
def test_a_seed_gives_the_same_synapses(rule):
    c = rule(seed=7)
    assert same(c, rule(seed=7))
    assert not same(c, rule(seed=8))
    assert c.order is None
    torch.manual_seed(3)
    drawn = rule()
    torch.manual_seed(3)
    assert same(drawn, rule())
    assert not same(drawn, rule())
    assert same(*(rule(generator=torch.Generator().manual_seed(5)) for _ in range(2)))


def test_a_seed_draws_these_synapses():
    """The first targets, written down: an update that changes them changes users' networks."""
    found = [RULES[name](seed=1).edges()[1][:6].tolist() for name in ("indegree", "outdegree", "total")]
    found.append(connect.fixed_outdegree(50, outdegree=12, multapses=False, seed=1).edges()[1][:6].tolist())
    assert found == WANT


@pytest.mark.parametrize("multapses", [True, False])
@pytest.mark.parametrize("autapses", [True, False])
@pytest.mark.parametrize("degree", [0, 3, 70, 79])
def test_every_neuron_has_its_degree(degree, autapses, multapses):
    options = {"autapses": autapses, "multapses": multapses, "seed": 2}
    towards = connect.fixed_indegree(80, indegree=degree, **options)
    away = connect.fixed_outdegree(80, outdegree=degree, **options)
    assert_equal([towards.in_degree(), away.out_degree()], [torch.full((80,), degree)] * 2)
    for c in (towards, away):
        pre, post = c.edges()
        assert autapses or not (pre == post).any()
        pairs = len(set(zip(pre.tolist(), post.tolist())))
        assert pairs == len(c) if not multapses else degree < 3 or pairs < len(c)


def test_two_sizes():
    c = connect.fixed_indegree(5, 200, indegree=4, multapses=False, seed=0)
    assert (c.n_pre, c.n_post, len(c), int(c.edges()[0].max())) == (5, 200, 800, 4)
    assert connect.fixed_total(3, 100_000, total=10, seed=0).targets.dtype == torch.int32
    assert_equal([*connect.one_to_one(4, delay=2).edges()], [torch.arange(4)] * 2)


@pytest.mark.parametrize("few", [True, False])
def test_distinct_targets_are_even(few):
    """Floyd's algorithm, whose draws are compared one by one or marked: every target is as likely as the others."""
    n, degree = (40, 10) if few else (100, 70)
    c = connect.fixed_outdegree(20_000, n, outdegree=degree, multapses=False, seed=4)
    p = degree / n
    deviation = (c.in_degree() - 20_000 * p) / (20_000 * p * (1 - p)) ** 0.5
    assert deviation.abs().max() < 4.5
    assert 0.6 < deviation.var(correction=0) * n / (n - 1) < 1.5


def test_a_probability_makes_pairs_independently():
    n, p = 400, 0.1
    counts = connect.fixed_probability(n, probability=p, seed=1)
    degrees = torch.stack([counts.out_degree(), counts.in_degree()]).double()
    assert abs(len(counts) - n * n * p) < 4.5 * (n * n * p * (1 - p)) ** 0.5
    assert torch.all((degrees.var(1) / (n * p * (1 - p)) - 1).abs() < 0.35)
    assert len(connect.fixed_probability(30, probability=1.0, autapses=False, seed=1)) == 30 * 29
    assert len(connect.fixed_probability(30, probability=0.0, seed=1)) == 0


def test_a_total_is_even_over_pairs():
    c = connect.fixed_total(10, 10, total=20_000, autapses=False, seed=1)
    matrix = c.dense(torch.ones(len(c), dtype=torch.float64)).numpy()
    assert np.trace(matrix) == 0
    expected = 20_000 / 90
    assert ((matrix[~np.eye(10, dtype=bool)] - expected) ** 2 / expected).sum() < 150  # chi squared, 89 degrees


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: connect.fixed_indegree(5, indegree=6, multapses=False), "indegree must be at most 5, .* once, got 6"),
        (
            lambda: connect.fixed_outdegree(5, outdegree=5, multapses=False, autapses=False),
            "outdegree must be at most 4, the number of neurons that a neuron can be connected to once, got 5",
        ),
        (lambda: connect.fixed_indegree(1, indegree=1, autapses=False), "indegree must be at most 0, .* got 1"),
        (lambda: connect.fixed_indegree(5, indegree=-1), "indegree must be at least 0, got -1"),
        (lambda: connect.fixed_indegree(5, 6, indegree=1, autapses=False), "autapses=False needs the same neurons"),
        (lambda: connect.fixed_probability(5, probability=1.5), "probability must be from 0 to 1, got 1.5"),
        (lambda: connect.fixed_total(0, total=3), "total must be 0 where no two neurons can be connected, got 3"),
        (lambda: connect.fixed_total(5, total=3, seed=-1), "seed must be at least 0, got -1"),
        (lambda: connect.fixed_total(5, total=3, delay=0), "delay must be at least 1, got 0"),
        (lambda: connect.fixed_total(5, total=3, delay=[1, 2]), r"delay must be a number, or have shape \[5\]"),
        (
            lambda: connect.fixed_total(5, total=3, seed=1, generator=torch.Generator()),
            "fixed_total: give seed or generator, not both",
        ),
        (
            lambda: connect.fixed_outdegree(10**6, outdegree=10**6),
            "fixed_outdegree: 1000000000000 synapses need some .* GiB while they are built, and this machine has",
        ),
    ],
)
def test_errors_come_before_anything_is_built(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
