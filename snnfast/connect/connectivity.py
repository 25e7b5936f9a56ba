"""Sparse connections between neurons, sorted by presynaptic neuron, delay and postsynaptic neuron."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnfast import backend, check

from .placed import placed

MOST_NEURONS = 2**31 - 1  # targets have 32 bits
SMALL = 2**15  # targets of fewer neurons have 16 bits
LONGEST = 2**31 - 1  # of a delay, in steps
COUNTED = 2**16  # delays below are found by counting


class Incoming(NamedTuple):
    """Synapses by postsynaptic neuron, in rising order of their numbers, so also by presynaptic neuron.

    Attributes:
        first: those of neuron ``i`` begin at ``first[i]`` and end before ``first[i + 1]``; int64 ``[n_post + 1]``.
        synapses: their numbers, int32.
        sources: their presynaptic neurons, int32.
    """

    first: Tensor
    synapses: Tensor
    sources: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Connectivity:
    """Synapses from ``n_pre`` neurons to ``n_post`` neurons, without their weights.

    The synapses are sorted by presynaptic neuron, then by delay, then by postsynaptic neuron; weights have one number
    for each synapse in this order. :meth:`edges` has the two neurons of each synapse, :meth:`arrange` brings values of
    edges into this order. A spike of step ``t`` arrives at step ``t + delay``. The functions of
    :mod:`snnfast.connect` make connectivities; a connectivity never changes.

    Attributes:
        n_pre, n_post: number of presynaptic and of postsynaptic neurons.
        steps: the delays that occur, in steps, rising; int64 ``[delays]``.
        first: the synapses of neuron ``j`` with delay ``steps[k]`` begin at ``first[j * delays + k]`` and end before
            the next entry; int64 ``[n_pre * delays + 1]``.
        targets: the postsynaptic neuron of each synapse; int16 where that suffices, else int32.
        order: index of the edge that became each synapse, in the order in which the edges were given; None if they
            were in order. Of a part (``targets=`` of a random rule, :meth:`onto`): index among all synapses.
        first_in_all: of a part: the synapses of neuron ``j`` in the whole begin at ``first_in_all[j]``; int64
            ``[n_pre + 1]``. None: these are all.
    """

    n_pre: int
    n_post: int
    steps: Tensor
    first: Tensor
    targets: Tensor
    order: Tensor | None = None
    first_in_all: Tensor | None = None
    _incoming: Incoming | None = field(default=None, init=False)
    _copies: dict[Any, tuple[Tensor, ...]] = field(default_factory=dict, init=False)  # on GPUs

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: all but the copies on GPUs."""
        return self.__dict__ | {"_copies": {}}

    def __len__(self) -> int:
        """Return the number of synapses."""
        return self.targets.numel()

    def __repr__(self) -> str:
        """Return sizes and delays."""
        low, high = self.shortest, self.longest
        delay = f"{low}" if low == high else f"{low} to {high}"
        return f"Connectivity({self.n_pre} -> {self.n_post} neurons, {len(self)} synapses, delay {delay})"

    @property
    def shortest(self) -> int:
        """Return the shortest delay in steps."""
        return int(self.steps[0])

    @property
    def longest(self) -> int:
        """Return the longest delay in steps."""
        return int(self.steps[-1])

    @property
    def nbytes(self) -> int:
        """Return the bytes of its tensors."""
        tensors = (self.steps, self.first, self.targets, self.order, self.first_in_all)
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    def edges(self) -> tuple[Tensor, Tensor]:
        """Return the presynaptic and the postsynaptic neuron of each synapse, in the order of the weights; int64."""
        pre = torch.arange(self.n_pre).repeat_interleave(self.out_degree(), output_size=len(self))
        return pre, self.targets.long()

    def delays(self) -> Tensor:
        """Return the delay of each synapse in steps; int64."""
        return self.steps.repeat(self.n_pre).repeat_interleave(self.first.diff())

    def out_degree(self) -> Tensor:
        """Return the number of synapses of each presynaptic neuron."""
        return self.first[:: self.steps.numel()].diff()

    def in_degree(self) -> Tensor:
        """Return the number of synapses of each postsynaptic neuron."""
        return torch.from_numpy(np.bincount(self.targets.numpy(), minlength=self.n_post))

    def out_of(self, sources: range | None) -> slice:
        """Return the places of the synapses of a range of presynaptic neurons; None: of all."""
        if sources is None:
            return slice(None)
        begin, end = neuron_range("out_of", "sources", sources, self.n_pre)
        delays = self.steps.numel()
        return slice(int(self.first[begin * delays]), int(self.first[end * delays]))

    @property
    def incoming(self) -> Incoming:
        """The synapses by postsynaptic neuron; computed at first use, 8 bytes a synapse."""
        if self._incoming is not None:
            return self._incoming
        if len(self) >= 2**31:
            raise ValueError(f"incoming: there must be fewer than 2**31 synapses, got {len(self)}")
        pre, post = self.edges()
        if check.is_recorded(self.targets.device):  # a trace has no values
            counts = post.new_zeros(self.n_post).index_add(0, post, torch.ones_like(post))
            synapses = post.sort(stable=True).indices.int()
            return Incoming(torch.nn.functional.pad(counts.cumsum(0), (1, 0)), synapses, pre.int()[synapses])
        first, sources, order = _sorted(post.numpy(), pre.numpy(), self.n_post, self.n_pre, True)
        order = np.arange(len(self)) if order is None else order
        found = Incoming(*(torch.from_numpy(a) for a in (first, order.astype(np.int32), sources.astype(np.int32))))
        object.__setattr__(self, "_incoming", found)
        return found

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``first``, ``targets`` and ``steps`` where kernels read them.

        A GPU gets copies at first use, which this connectivity keeps; it stays on the CPU itself.
        """
        return placed(self._copies, "rows", device, lambda: (self.first, self.targets, self.steps))  # type: ignore[return-value]

    def incoming_on(self, device: torch.device) -> Incoming:
        """Return :attr:`incoming` where kernels read it, copied to a GPU as by :meth:`on`."""
        return Incoming(*placed(self._copies, "incoming", device, lambda: self.incoming))

    def arrange(self, values: Tensor) -> Tensor:
        """Return values of the edges, in the order in which these were given, in the order of the synapses.

        Of a part, ``values`` are those of all synapses, in their order.
        """
        count = len(self) if self.first_in_all is None else int(self.first_in_all[-1])
        check.shape("arrange", "values", values, (count,))
        return values if self.order is None else values[self.order]

    def onto(self, targets: range) -> Connectivity:
        """Return the part of the synapses whose postsynaptic neurons are ``targets``, numbered from 0 there.

        ``part.arrange(weight)`` has their weights, of those of all synapses.
        """
        low, high = neuron_range("onto", "targets", targets, self.n_post)
        every = self.targets.numpy()
        place = np.flatnonzero((every >= low) & (every < high))
        first = torch.from_numpy(np.searchsorted(place, self.first.numpy()).astype(np.int64))
        found = (every[place] - low).astype(_target_type(high - low))
        chosen = torch.from_numpy(found), torch.from_numpy(place.astype(np.int32 if len(every) < 2**31 else np.int64))
        in_all = self.first[:: self.steps.numel()].clone()
        return Connectivity(self.n_pre, high - low, self.steps, first, *chosen, in_all)

    def with_delay(self, delay: int | Tensor) -> Connectivity:
        """Return the same synapses with other delays.

        Args:
            delay: steps, at least 1: a number, or integers ``[n_pre]`` or ``[synapses]``, in the order of
                :meth:`edges`. The result sorts the synapses anew: its :meth:`arrange` brings weights of this
                connectivity into its order.
        """
        pre, post = self.edges()
        return from_edges(pre, post, self.n_pre, self.n_post, delay=delay)

    def dense(self, weight: Tensor) -> Tensor:
        """Return the matrix ``[n_post, n_pre]`` of weights, as of ``torch.nn.Linear``; synapses of a pair add up.

        Args:
            weight: ``[synapses]``, a weight for each neuron ``[n_pre]``, or one number ``[]``.
        """
        pre, post = (index.to(weight.device) for index in self.edges())
        matrix = weight.new_zeros(self.n_post, self.n_pre)
        return matrix.index_put((post, pre), self.per_synapse(weight), accumulate=True)

    def to_torch(self, weight: Tensor) -> Tensor:
        """Return the matrix of :meth:`dense` as a sparse CSR tensor of PyTorch."""
        pre, post = self.edges()
        indices = torch.stack([post, pre]).to(weight.device)
        size = (self.n_post, self.n_pre)
        matrix = torch.sparse_coo_tensor(indices, self.per_synapse(weight), size, check_invariants=False)
        return matrix.coalesce().to_sparse_csr()

    def per_synapse(self, weight: Tensor) -> Tensor:
        """Return weights, one or one for each presynaptic neuron or each synapse, as one for each synapse."""
        check.tensor("per_synapse", "weight", weight)
        check.shape("per_synapse", "weight", weight, (len(self),), (self.n_pre,), ())
        if weight.shape == (len(self),):
            return weight
        return weight.expand(self.n_pre).repeat_interleave(self.out_degree().to(weight.device))


def from_edges(
    pre: Tensor, post: Tensor, n_pre: int, n_post: int | None = None, *, delay: int | Tensor = 1
) -> Connectivity:
    """Return the connectivity with a synapse from ``pre[e]`` to ``post[e]`` for every edge ``e``.

    Edges may come in any order; ``connectivity.arrange(values)`` brings values of the edges, such as weights, into the
    order of the synapses. Edges that occur several times are several synapses.

    Args:
        pre: presynaptic neuron of each edge, integers ``[edges]``; a tensor or an array of numpy.
        post: postsynaptic neuron of each edge, likewise.
        n_pre: number of presynaptic neurons.
        n_post: number of postsynaptic neurons; ``n_pre`` if None.
        delay: steps until a spike arrives, at least 1: a number, or integers ``[edges]``, one for each edge, or
            ``[n_pre]``, one for each presynaptic neuron. If there are as many edges as neurons, one for each edge.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range, and for more synapses than memory holds.
    """
    n_pre, n_post = _sizes("from_edges", n_pre, n_pre if n_post is None else n_post)
    pre, post = _indices("from_edges", "pre", pre, n_pre), _indices("from_edges", "post", post, n_post)
    if len(pre) != len(post):
        raise ValueError(f"from_edges: pre and post must have the same length, got {len(pre)} and {len(post)}")
    fits_memory("from_edges", len(pre), n_pre, n_post)
    return build("from_edges", pre, post, n_pre, n_post, delay)


def from_dense(matrix: Tensor, *, delay: int | Tensor = 1) -> Connectivity:
    """Return the connectivity with a synapse for every element of ``matrix`` ``[n_post, n_pre]`` that is not 0.

    ``matrix[post, pre]`` with ``pre, post = connectivity.edges()`` are the weights.

    Args:
        matrix: weights, or any tensor that is 0 where there is no synapse.
        delay: as for :func:`from_edges`, with the edges in the order of the synapses.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    check.shape("from_dense", "matrix", matrix, ("n_post", "n_pre"))
    n_pre, n_post = _sizes("from_dense", matrix.shape[1], matrix.shape[0])
    pre, post = matrix.detach().cpu().T.nonzero().T.numpy()
    return build("from_dense", pre, post, n_pre, n_post, delay)


def from_torch(matrix: Tensor, *, delay: int | Tensor = 1) -> Connectivity:
    """Return the connectivity with a synapse for every stored element of a sparse ``matrix`` ``[n_post, n_pre]``.

    ``connectivity.arrange(matrix.values())`` are the weights.

    Args:
        matrix: a sparse tensor of PyTorch in the layout CSR, or coalesced COO.
        delay: as for :func:`from_edges`, with the edges in the order of ``matrix.values()``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    if not isinstance(matrix, Tensor) or matrix.layout not in (torch.sparse_csr, torch.sparse_coo):
        got = matrix.layout if isinstance(matrix, Tensor) else check.kind(matrix)
        raise TypeError(
            f"from_torch: matrix must be a sparse tensor, CSR or COO, got {got}; from_dense takes a dense one"
        )
    if matrix.dim() != 2 or matrix.dense_dim():
        raise ValueError(f"from_torch: matrix must have shape [n_post, n_pre], got {list(matrix.shape)}")
    n_pre, n_post = _sizes("from_torch", matrix.shape[1], matrix.shape[0])
    if matrix.layout is torch.sparse_coo:
        if not matrix.is_coalesced():
            raise ValueError("from_torch: matrix must be coalesced, so that its values have an order; call coalesce()")
        post, pre = matrix.indices().cpu()
    else:
        pre = matrix.col_indices().cpu()
        post = torch.arange(n_post).repeat_interleave(matrix.crow_indices().cpu().diff())
    return build("from_torch", pre.numpy(), post.numpy(), n_pre, n_post, delay)


def concatenate(
    projections: Sequence[tuple[Connectivity, int, int]], n_pre: int, n_post: int | None = None
) -> Connectivity:
    """Return the connectivity with the synapses of several projections between ranges of neurons.

    ``connectivity.arrange(torch.cat(weights))`` brings the weights of the projections into the order of its synapses.

    Args:
        projections: for each a connectivity, and the numbers of its first presynaptic and first postsynaptic neuron.
        n_pre: number of presynaptic neurons.
        n_post: number of postsynaptic neurons; ``n_pre`` if None.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range.
    """
    n_pre, n_post = _sizes("concatenate", n_pre, n_pre if n_post is None else n_post)
    parts: list[tuple[Any, Any, Any]] = [(np.empty(0, np.int32),) * 3]
    for k, projection in enumerate(projections):
        if not (isinstance(projection, tuple) and len(projection) == 3 and isinstance(projection[0], Connectivity)):
            raise TypeError(
                f"concatenate: projections[{k}] must be (connectivity, first presynaptic neuron, first postsynaptic "
                f"neuron), got {check.kind(projection)}"
            )
        c, *starts = projection
        for name, start, size, most in zip(("pre", "post"), starts, (c.n_pre, c.n_post), (n_pre, n_post)):
            check.integer("concatenate", f"projections[{k}], first {name}", start, 0)
            if start + size > most:
                raise ValueError(
                    f"concatenate: projections[{k}] must end at neuron {most} of n_{name}, got {start} + {size}"
                )
    fits_memory("concatenate", sum(len(c) for c, *_ in projections), n_pre, n_post)
    steps = {step for c, *_ in projections for step in c.steps.tolist()}
    same = len(steps) == 1
    for c, first_pre, first_post in projections:
        pre = np.repeat(np.arange(c.n_pre, dtype=np.int32), c.out_degree())
        post = c.targets.int().numpy()
        delay = None if same else c.delays().int().numpy()
        parts.append((pre + np.int32(first_pre), post + np.int32(first_post), delay))
    all_pre, all_post, delays = zip(*parts)
    delay = steps.pop() if same else np.concatenate(delays)
    return build("concatenate", np.concatenate(all_pre), np.concatenate(all_post), n_pre, n_post, delay)


def from_blocks(
    blocks: Iterable[tuple[Tensor, Tensor, Tensor | int, Tensor]], synapses: int, n_pre: int, n_post: int | None = None
) -> tuple[Connectivity, Tensor]:
    """Return the connectivity of edges that come in blocks of presynaptic neurons, and their values.

    While it runs, it takes the memory of the result and, for a moment, some 40 bytes for each edge of a block; so it
    makes networks that :func:`from_edges` cannot make in the memory there is. The result is that of
    :func:`from_edges` for all edges in order, without its ``order``, since the values are arranged already.

    Args:
        blocks: for each ``(pre, post, delay, values)``: neurons as for :func:`from_edges`, a delay or one for each
            edge, and values of the edges such as weights, ``[edges]``, all of one dtype. All presynaptic neurons of a
            block are behind those of the blocks before it. A generator makes one block after the other.
        synapses: number of edges of all blocks.
        n_pre: number of presynaptic neurons.
        n_post: number of postsynaptic neurons; ``n_pre`` if None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    op = "from_blocks"
    n_pre, n_post = _sizes(op, n_pre, n_pre if n_post is None else n_post)
    synapses = check.integer(op, "synapses", synapses, 0)
    fits_memory(op, synapses, n_pre, n_post, size=6 if n_post <= SMALL else 8)  # targets, and values of 4 bytes
    targets = np.empty(synapses, _target_type(n_post))
    arranged: Tensor | None = None
    counts: list[tuple[int, Any, Any]] = []  # first neuron, delays, and synapses of each neuron and delay
    begin = row = 0
    for k, (pre, post, delay, values) in enumerate(blocks):
        pre, post = _indices(op, f"blocks[{k}], pre", pre, n_pre), _indices(op, f"blocks[{k}], post", post, n_post)
        if len(pre) == 0:
            continue
        low, high, end = int(pre.min()), int(pre.max()) + 1, begin + len(pre)
        if low < row:
            raise ValueError(f"{op}: blocks[{k}], pre must be at least {row}, behind the blocks before, got {low}")
        if len(pre) != len(post):
            raise ValueError(f"{op}: blocks[{k}] must have as many post as pre, got {len(post)} and {len(pre)}")
        if end > synapses:
            raise ValueError(f"{op}: blocks must have {synapses} edges, the number of synapses, got at least {end}")
        if np.ndim(delay) and len(delay) != len(pre):  # type: ignore[arg-type]
            raise ValueError(f"{op}: blocks[{k}], delay must be a number or have shape [{len(pre)}], got {len(delay)}")  # type: ignore[arg-type]
        c = build(op, pre - low, post, high - low, n_post, delay)
        if arranged is None:
            check.tensor(op, f"blocks[{k}], values", values)
            arranged = values.new_empty(synapses)
        check.tensor_of(op, f"blocks[{k}], values", values, (len(pre),), arranged.dtype, arranged.device)
        targets[begin:end] = c.targets.numpy()
        arranged[begin:end] = c.arrange(values)
        counts.append((low, c.steps.numpy(), np.diff(c.first.numpy()).reshape(high - low, -1)))
        begin, row = end, high
    if begin != synapses:
        raise ValueError(f"{op}: blocks must have {synapses} edges, the number of synapses, got {begin}")
    steps = np.unique(np.concatenate([delays for _, delays, _ in counts] or [np.ones(1, np.int64)]))
    first = np.zeros(n_pre * len(steps) + 1, np.int64)
    of_neurons = first[1:].reshape(n_pre, len(steps))
    for low, delays, count in counts:
        of_neurons[low : low + len(count), np.searchsorted(steps, delays)] = count
    np.cumsum(first, out=first)
    c = Connectivity(n_pre, n_post, torch.from_numpy(steps), torch.from_numpy(first), torch.from_numpy(targets))
    return c, torch.empty(0) if arranged is None else arranged


# ---- building


def build(op: str, pre: Any, post: Any, n_pre: int, n_post: int, delay: Any, ordered: bool = True) -> Connectivity:
    """Return the connectivity of edges with valid indices, integer arrays; ``delay`` as for :func:`from_edges`.

    ``ordered``: the order of the edges matters to the caller, who has values of them.
    """
    steps, row = _rows(delay_of_edges(op, delay, pre, n_pre), pre, n_pre)
    first, targets, order = _sorted(row, post, n_pre * len(steps), n_post, ordered)
    found = None if order is None else torch.from_numpy(order)
    return Connectivity(
        n_pre, n_post, torch.from_numpy(steps), torch.from_numpy(first), torch.from_numpy(targets), found
    )


def _sorted(row: Any, post: Any, rows: int, n_post: int, ordered: bool) -> tuple[Any, Any, Any]:
    """Return ``first``, ``targets`` and ``order`` of :class:`Connectivity`: edges by row, then by target."""
    if backend.extension is None or backend.forced() == "reference" or max(rows, len(post)) >= 2**31:
        return _sorted_by_numpy(row, post, rows, n_post, ordered)
    first, targets = np.empty(rows + 1, np.int64), np.empty(len(post), _target_type(n_post))
    order = np.empty(len(post), np.int32) if ordered else None
    row, post = (np.ascontiguousarray(values, np.int32) for values in (row, post))
    moved = backend.extension.sort_edges(row, post, rows, n_post, first, targets, order)
    return first, targets, order if moved else None


def _sorted_by_numpy(row: Any, post: Any, rows: int, n_post: int, ordered: bool) -> tuple[Any, Any, Any]:
    """Return the same by numpy."""
    order = None
    if ordered:
        first = np.zeros(rows + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=rows), out=first[1:])
        order = _order(row, post, rows, n_post)
        targets = (post if order is None else post[order]).astype(_target_type(n_post))
        if order is not None and len(order) < 2**31:
            order = order.astype(np.int32)
    else:
        bits = max((n_post - 1).bit_length(), 1)
        wide: Any = np.uint32 if rows << bits < 2**32 else np.uint64
        key = row.astype(wide)
        key <<= wide(bits)
        key |= post.astype(wide)
        key.sort()
        first = np.searchsorted(key, np.arange(rows + 1, dtype=wide) << wide(bits)).astype(np.int64)
        key &= wide((1 << bits) - 1)
        targets = key.astype(_target_type(n_post))
    return first, targets, order


def _target_type(n_post: int) -> Any:
    return np.int16 if n_post <= SMALL else np.int32


def _rows(delay: Any, pre: Any, n_pre: int) -> tuple[Any, Any]:
    """Return the delays that occur, and the row of each edge, by presynaptic neuron and delay."""
    if np.ndim(delay) == 0 or len(delay) == 0:
        return np.array([delay if np.ndim(delay) == 0 else 1], np.int64), pre
    if delay.max() < COUNTED:
        steps = np.flatnonzero(np.bincount(delay))
        place = np.zeros(steps[-1] + 1, np.int32)
        place[steps] = np.arange(len(steps))
        which = place[delay]
    else:
        steps, which = np.unique(delay, return_inverse=True)
    wide = np.int32 if n_pre * len(steps) < 2**31 else np.int64
    row = pre if len(steps) == 1 else pre.astype(wide) * wide(len(steps)) + which.astype(wide)
    return steps.astype(np.int64), row


def _order(row: Any, post: Any, rows: int, n_post: int) -> Any:
    """Return the stable order by row, then by target; None if the edges are in order."""
    same = row[1:] == row[:-1]
    if np.all((row[1:] > row[:-1]) | (same & (post[1:] >= post[:-1]))):
        return None
    return _stable_order([(post, n_post), (row, rows)])


def _stable_order(keys: list[tuple[Any, int]]) -> Any:
    """Return the stable order by the keys, the last first, each below a size; None if the keys are in order."""
    order: Any = None
    # numpy sorts 16 bits at a time by counting
    for key, size in keys:
        for shift in range(0, max((size - 1).bit_length(), 1), 16):
            digit = ((key if order is None else key[order]) >> shift).astype(np.uint16)
            if np.all(digit[1:] >= digit[:-1]):
                continue
            found = digit.argsort(kind="stable")
            order = found if order is None else order[found]
    return order


def delay_of_edges(op: str, delay: object, pre: Any, n_pre: int) -> Any:
    """Return a delay as a number, or one for each edge; see :func:`from_edges`."""
    if isinstance(delay, check.INTEGERS) and not isinstance(delay, bool):
        return check.integer(op, "delay", delay, 1, LONGEST)
    values = _array(op, "delay", delay)
    if values.shape not in ((len(pre),), (n_pre,)):
        raise ValueError(
            f"{op}: delay must be a number, or have shape [{len(pre)}], one for each synapse, or [{n_pre}], one for "
            f"each presynaptic neuron, got {list(values.shape)}"
        )
    if len(values) and not 1 <= values.min() <= values.max() <= LONGEST:
        raise ValueError(
            f"{op}: delay must be at least 1 step and less than 2**31, got {values.min()} to {values.max()}"
        )
    return values if len(values) == len(pre) else values[pre]


def _sizes(op: str, n_pre: object, n_post: object) -> tuple[int, int]:
    """Check numbers of neurons."""
    return check.integer(op, "n_pre", n_pre, 0, MOST_NEURONS), check.integer(op, "n_post", n_post, 0, MOST_NEURONS)


def _array(op: str, name: str, values: object) -> Any:
    """Return integers as an array."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{op}: {name} must be integers, got {array.dtype if array.dtype.kind in 'fb' else check.kind(values)}"
        )
    return array


def _indices(op: str, name: str, values: object, size: int) -> Any:
    array = _array(op, name, values)
    if array.ndim != 1:
        raise ValueError(f"{op}: {name} must have shape [edges], got {list(array.shape)}")
    if len(array) and not 0 <= array.min() <= array.max() < size:
        raise ValueError(f"{op}: {name} must be from 0 to {size - 1}, got {array.min()} to {array.max()}")
    return array


def neuron_range(op: str, name: str, chosen: object, count: int) -> tuple[int, int]:
    """Check a range of ``count`` neurons; None: all. Return the first and the one behind the last."""
    if chosen is None:
        return 0, count
    if not isinstance(chosen, range):
        raise TypeError(f"{op}: {name} must be a range, such as range(0, {count}), got {check.kind(chosen)}")
    if chosen.step != 1 or not 0 <= chosen.start <= chosen.stop <= count:
        raise ValueError(f"{op}: {name} must be a range with step 1 within range(0, {count}), got {chosen}")
    return chosen.start, chosen.stop


def fits_memory(op: str, synapses: int, n_pre: int, n_post: int, size: int | None = None) -> None:
    """Require that memory holds a connectivity while it is built; ``size``: bytes a synapse, where that is known."""
    size = (24 if n_pre <= SMALL and n_post <= SMALL else 32) if size is None else size
    needed = synapses * size + 16 * (n_pre + n_post)
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    except (AttributeError, OSError, ValueError):  # unknown on this system
        return
    if needed > memory:
        raise ValueError(
            f"{op}: {synapses} synapses need some {needed / 2**30:.1f} GiB while they are built, and this machine has "
            f"{memory / 2**30:.1f} GiB"
        )
