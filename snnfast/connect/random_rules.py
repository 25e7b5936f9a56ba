"""Random connections. The words of a counter-based generator decide, so a seed gives the same synapses everywhere.

Word ``e`` of the Philox 4x64-10 sequence of numpy whose key is the seed belongs to synapse ``e`` of a rule; its upper
half ``u`` gives a number below ``n`` as ``floor(u n / 2**32)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnfast import check

from .connectivity import MOST_NEURONS, Connectivity, build, delay_of_edges, fits_memory, neuron_range

CHUNK = 2**24  # pairs of neurons that are marked at a time
DRAWN = 2**17  # words that are drawn at a time, few enough for a cache
COMPARED = 64  # distinct draws of a row up to which each is compared with all before it


def one_to_one(n: int, *, delay: int | Tensor = 1) -> Connectivity:
    """Return the connectivity with a synapse from each of ``n`` neurons to the neuron of the same number.

    Args:
        n: number of neurons.
        delay: as for :func:`snnfast.connect.from_edges`.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range.
    """
    n = check.integer("one_to_one", "n", n, 0, MOST_NEURONS)
    every = np.arange(n, dtype=np.int32)
    return build("one_to_one", every, every, n, n, delay)


@check.keywords
def fixed_indegree(
    n_pre: int,
    n_post: int | None = None,
    *,
    indegree: int,
    delay: int | Tensor = 1,
    autapses: bool = True,
    multapses: bool = True,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    targets: range | None = None,
) -> Connectivity:
    """Return random connections with ``indegree`` synapses to every postsynaptic neuron.

    Args:
        n_pre: number of presynaptic neurons.
        n_post: number of postsynaptic neurons; ``n_pre`` if None.
        indegree: synapses of a postsynaptic neuron, from presynaptic neurons drawn evenly.
        delay: as for :func:`snnfast.connect.from_edges`: steps, one number or one for each presynaptic neuron.
            :meth:`Connectivity.with_delay` sets one for each synapse.
        autapses: whether neuron ``i`` may send to neuron ``i``, where ``n_pre`` is ``n_post``.
        multapses: whether two neurons may have several synapses.
        seed: an integer in [0, 2**64); the same seed gives the same synapses for any number of threads. None: drawn
            from ``generator``.
        generator: None: PyTorch's generator of the CPU, which ``torch.manual_seed`` seeds.
        targets: build only the synapses to these postsynaptic neurons, which are numbered from 0: a part of the
            connections, as by :meth:`Connectivity.onto`, whose memory is that of the part. None: all.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, and for more synapses than memory holds.
    """
    rule = _RandomRule("fixed_indegree", n_pre, n_post, delay, autapses, multapses, seed, generator, targets)
    rule.degree("indegree", indegree, rule.n_pre)
    rule.check_memory(rule.n_post * indegree)
    edges = rule.rows(np.full(rule.n_post, indegree), rule.n_pre)
    return rule.built(((pre, post) for post, pre in edges), rule.n_post * indegree)


@check.keywords
def fixed_outdegree(
    n_pre: int,
    n_post: int | None = None,
    *,
    outdegree: int,
    delay: int | Tensor = 1,
    autapses: bool = True,
    multapses: bool = True,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    targets: range | None = None,
) -> Connectivity:
    """Return random connections with ``outdegree`` synapses of every presynaptic neuron.

    Args:
        n_pre: number of presynaptic neurons.
        n_post: number of postsynaptic neurons; ``n_pre`` if None.
        delay: as for :func:`fixed_indegree`.
        autapses: as for :func:`fixed_indegree`.
        multapses: as for :func:`fixed_indegree`.
        seed: as for :func:`fixed_indegree`.
        generator: as for :func:`fixed_indegree`.
        targets: as for :func:`fixed_indegree`.
        outdegree: synapses of a presynaptic neuron, to postsynaptic neurons drawn evenly.

    Raises:
        TypeError, ValueError: as for :func:`fixed_indegree`.
    """
    rule = _RandomRule("fixed_outdegree", n_pre, n_post, delay, autapses, multapses, seed, generator, targets)
    rule.degree("outdegree", outdegree, rule.n_post)
    rule.check_memory(rule.n_pre * outdegree)
    return rule.built(rule.rows(np.full(rule.n_pre, outdegree), rule.n_post), rule.n_pre * outdegree)


@check.keywords
def fixed_probability(
    n_pre: int,
    n_post: int | None = None,
    *,
    probability: float,
    delay: int | Tensor = 1,
    autapses: bool = True,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    targets: range | None = None,
) -> Connectivity:
    """Return random connections with a synapse between any two neurons with ``probability``, independently.

    The number of synapses of a presynaptic neuron is binomial (by numpy, whose version may matter for the same seed);
    its targets are distinct.

    Args:
        n_pre: number of presynaptic neurons.
        n_post: number of postsynaptic neurons; ``n_pre`` if None.
        delay: as for :func:`fixed_indegree`.
        autapses: as for :func:`fixed_indegree`.
        seed: as for :func:`fixed_indegree`.
        generator: as for :func:`fixed_indegree`.
        targets: as for :func:`fixed_indegree`.
        probability: from 0 to 1.

    Raises:
        TypeError, ValueError: as for :func:`fixed_indegree`.
    """
    rule = _RandomRule("fixed_probability", n_pre, n_post, delay, autapses, False, seed, generator, targets)
    probability = check.number(rule.op, "probability", probability)
    if not 0 <= probability <= 1:
        raise ValueError(f"{rule.op}: probability must be from 0 to 1, got {probability}")
    choices = rule.n_post - (not rule.autapses)
    rule.check_memory(int(rule.n_pre * max(choices, 0) * probability))
    counts = np.random.Generator(np.random.Philox(key=rule.seed + (1 << 64))).binomial(
        max(choices, 0), probability, rule.n_pre
    )
    return rule.built(rule.rows(counts, rule.n_post), int(counts.sum()))


@check.keywords
def fixed_total(
    n_pre: int,
    n_post: int | None = None,
    *,
    total: int,
    delay: int | Tensor = 1,
    autapses: bool = True,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    targets: range | None = None,
) -> Connectivity:
    """Return ``total`` synapses, each between a presynaptic and a postsynaptic neuron drawn evenly.

    Two neurons may have several synapses.

    Args:
        n_pre: number of presynaptic neurons.
        n_post: number of postsynaptic neurons; ``n_pre`` if None.
        delay: as for :func:`fixed_indegree`.
        autapses: as for :func:`fixed_indegree`.
        seed: as for :func:`fixed_indegree`.
        generator: as for :func:`fixed_indegree`.
        targets: as for :func:`fixed_indegree`.
        total: number of synapses.

    Raises:
        TypeError, ValueError: as for :func:`fixed_indegree`.
    """
    rule = _RandomRule("fixed_total", n_pre, n_post, delay, autapses, True, seed, generator, targets)
    total = check.integer(rule.op, "total", total, 0)
    choices = rule.n_post - (not rule.autapses)
    if total and (rule.n_pre == 0 or choices < 1):
        raise ValueError(f"{rule.op}: total must be 0 where no two neurons can be connected, got {total}")
    rule.check_memory(total)
    return rule.built(rule.pairs(total, choices), total)


class _RandomRule:
    """Checked arguments that random rules share, and their random words."""

    def __init__(
        self,
        op: str,
        n_pre: object,
        n_post: object,
        delay: object,
        autapses: object,
        multapses: object,
        seed: object,
        generator: torch.Generator | None,
        targets: object,
    ) -> None:
        self.op = op
        self.n_pre = check.integer(op, "n_pre", n_pre, 0, MOST_NEURONS)
        self.n_post = self.n_pre if n_post is None else check.integer(op, "n_post", n_post, 0, MOST_NEURONS)
        self.autapses = check.flag(op, "autapses", autapses)
        self.multapses = check.flag(op, "multapses", multapses)
        if not self.autapses and self.n_pre != self.n_post:
            raise ValueError(
                f"{op}: autapses=False needs the same neurons on both sides, got n_pre={self.n_pre} and "
                f"n_post={self.n_post}"
            )
        self.low, self.high = neuron_range(op, "targets", targets, self.n_post)
        delay_of_edges(op, delay, np.empty(self.n_pre, np.int32), self.n_pre)
        self.delay = delay
        check.generator(op, generator)
        if seed is not None and generator is not None:
            raise ValueError(f"{op}: give seed or generator, not both")
        if seed is None:
            device = "cpu" if generator is None else generator.device
            seed = int(torch.randint(0, 2**63 - 1, (1,), generator=generator, device=device))
        self.seed = check.integer(op, "seed", seed, 0, 2**64 - 1)
        self._generator = np.random.Philox(key=self.seed)

    def degree(self, name: str, degree: object, most: int) -> None:
        """Check the number of synapses of a neuron, of ``most`` on the other side."""
        check.integer(self.op, name, degree, 0)
        choices = most - (not self.autapses)
        if degree and (choices < 1 or (not self.multapses and degree > choices)):  # type: ignore[operator]
            raise ValueError(
                f"{self.op}: {name} must be at most {max(choices, 0)}, the number of neurons that a neuron can be "
                f"connected to{'' if self.multapses else ' once'}, got {degree}"
            )

    def check_memory(self, synapses: int) -> None:
        """Require that memory holds the synapses of the part."""
        share = synapses * (self.high - self.low) // max(self.n_post, 1)
        fits_memory(self.op, share, self.n_pre, self.high - self.low)

    def words(self, count: int) -> Any:
        """Return the next random words."""
        return self._generator.random_raw(count)

    def pairs(self, total: int, choices: int) -> Iterator[tuple[Any, Any]]:
        """Yield presynaptic and postsynaptic neurons of ``total`` synapses, some at a time: a word for each."""
        for begin in range(0, total, DRAWN):
            words = self.words(min(DRAWN, total - begin))
            pre, post = _below(words, self.n_pre), _below(words << np.uint64(32), choices)
            yield pre, post if self.autapses else post + (post >= pre)

    def rows(self, counts: Any, most: int) -> Iterator[tuple[Any, Any]]:
        """Yield rows and columns below ``most``, ``counts[row]`` for each row, some rows at a time.

        Columns of a row rise if they are distinct.
        """
        choices, begin = most - (not self.autapses), 0
        ends = np.cumsum(counts)
        while begin < len(counts):
            drawn = ends[begin - 1] if begin else 0
            several = np.searchsorted(ends, drawn + DRAWN) if self.multapses else begin + CHUNK // max(choices, 1)
            end = min(max(int(several), begin + 1), len(counts))
            words, count = self.words(int(ends[end - 1] - drawn)), counts[begin:end]
            row = np.repeat(np.arange(begin, end, dtype=np.int32), count)
            column = _below(words, choices) if self.multapses else _distinct(words, count, choices)
            yield row, column if self.autapses else column + (column >= row)
            begin = end

    def built(self, edges: Iterable[tuple[Any, Any]], total: int) -> Connectivity:
        """Return the connectivity of ``total`` edges in chunks, which have no order of their own, or of the part."""
        low, high, size = self.low, self.high, 0
        pre, post = np.empty(total, np.int32), np.empty(total, np.int32)  # memory that a part does not write costs none
        if (low, high) == (0, self.n_post):
            for sources, targets in edges:
                pre[size : size + len(sources)], post[size : size + len(targets)] = sources, targets
                size += len(sources)
            return build(self.op, pre, post, self.n_pre, self.n_post, self.delay, ordered=False)
        degree, before = np.zeros(self.n_pre, np.int64), np.zeros(self.n_pre, np.int64)
        for sources, targets in edges:
            degree += np.bincount(sources, minlength=self.n_pre)
            before += np.bincount(sources[targets < low], minlength=self.n_pre)
            chosen = (targets >= low) & (targets < high)
            end = size + int(np.count_nonzero(chosen))
            pre[size:end], post[size:end] = sources[chosen], targets[chosen] - low
            size = end
        c = build(self.op, pre[:size], post[:size], self.n_pre, high - low, self.delay, ordered=False)
        # The synapses of a neuron are sorted by target, so those of the part are neighbours.
        chosen = c.out_degree().numpy()
        first_in_all = np.concatenate([[0], degree.cumsum()])
        begin = first_in_all[:-1] + before - (chosen.cumsum() - chosen)
        narrow = np.int32 if total < 2**31 else np.int64
        order = np.repeat(begin.astype(narrow), chosen)
        order += np.arange(size, dtype=narrow)
        return replace(c, order=torch.from_numpy(order), first_in_all=torch.from_numpy(first_in_all))


def _below(words: Any, n: int) -> Any:
    """Return numbers below ``n`` from the upper halves of the words."""
    return ((words >> np.uint64(32)) * np.uint64(n) >> np.uint64(32)).astype(np.int32)


def _distinct(words: Any, counts: Any, n: int) -> Any:
    """Return ``counts[row]`` distinct numbers below ``n`` for each row, rising: Floyd's algorithm, a word for each.

    Draw ``i`` of ``k`` is a number below ``n - k + i + 1``; if the row has it, the row takes ``n - k + i`` instead.
    """
    rows, most = np.arange(len(counts)), int(counts.max(initial=0))
    start = np.cumsum(counts) - counts
    few = most <= COMPARED
    chosen = np.full((len(counts), most), n, np.int64) if few else np.zeros((len(counts), n), bool)
    for i in range(most):
        row = rows[counts > i]
        last = n - counts[row] + i
        draw = (words[start[row] + i] >> np.uint64(32)) * (last + 1).astype(np.uint64) >> np.uint64(32)
        draw = draw.astype(np.int64)
        taken = (chosen[row, :i] == draw[:, None]).any(1) if few else chosen[row, draw]
        draw = np.where(taken, last, draw)
        if few:
            chosen[row, i] = draw
        else:
            chosen[row, draw] = True
    if few:
        chosen.sort(1)
        return chosen[np.arange(most) < counts[:, None]].astype(np.int32)
    return chosen.nonzero()[1].astype(np.int32)
