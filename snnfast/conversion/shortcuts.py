"""Layers by a way that is faster for spikes on the CPU; docs/benchmarks.md has what was measured."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

# From so many weights on a product looks for inputs that are 0. It leaves them out where no more than this part of
# the inputs is left: more in a small batch, where a dense product waits for memory.
SPARSE_WEIGHTS = 1 << 18
SPARSE_INPUTS, SPARSE_INPUTS_SMALL_BATCH, SMALL_BATCH = 0.1, 0.2, 16


def shortcut_of(layer: nn.Module | None, *, is_sparse: bool) -> Callable[[Tensor], Tensor] | None:
    """What gives the results of ``layer`` faster, but for rounding, if anything does.

    Args:
        layer: a layer, whose weights are not changed while the result is in use.
        is_sparse: its input is spikes, or averages of them.
    """
    if isinstance(layer, nn.Linear) and is_sparse and is_worth_skipping(layer.weight):
        rows, bias = layer.weight.t().contiguous(), layer.bias
        return lambda x: sparse_linear(x, rows, bias)
    if isinstance(layer, nn.AvgPool2d) and (size := _window(layer)):
        return lambda x: average_pool(x, size) if _fits(x, size) else layer(x)
    return None


def is_worth_skipping(weight: Tensor) -> bool:
    """Whether :func:`sparse_linear` can be faster than a dense product."""
    known = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
    return known and weight.numel() >= SPARSE_WEIGHTS


def sparse_linear(x: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ rows + bias``, which where few of ``x`` are not 0 reads the rows of those alone."""
    flat = x.reshape(-1, x.shape[-1])
    part = SPARSE_INPUTS_SMALL_BATCH if len(flat) <= SMALL_BATCH else SPARSE_INPUTS
    if int(flat.count_nonzero()) > part * flat.numel():
        return F.linear(x, rows.t(), bias)
    return add_rows(flat, rows, bias).view(*x.shape[:-1], -1)


def add_rows(x: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ rows + bias`` for ``x`` ``[B, inputs]``, reading the rows of inputs that are not 0."""
    sample, row = x.nonzero(as_tuple=True)
    offsets = F.pad(torch.bincount(sample, minlength=len(x)).cumsum(0), (1, 0))
    y = F.embedding_bag(
        row,
        rows,
        offsets,
        mode="sum",
        include_last_offset=True,
        per_sample_weights=x[sample, row],
    )
    return y if bias is None else y.add_(bias)


def average_pool(x: Tensor, size: int) -> Tensor:
    """Means of windows of ``size`` by ``size`` side by side: whole rows are added up first, which SIMD can do."""
    rows = x[..., ::size, :]
    for i in range(1, size):
        rows = rows + x[..., i::size, :]
    sums = rows[..., ::size]
    for i in range(1, size):
        sums = sums + rows[..., i::size]
    return sums.mul_(1 / size**2) if size > 1 else x


def _window(pool: nn.AvgPool2d) -> int:
    """The side of a pool whose windows are squares side by side; 0 for another pool."""
    sides = {*_pair(pool.kernel_size), *_pair(pool.stride)}
    plain = _pair(pool.padding) == (0, 0) and not pool.ceil_mode and pool.divisor_override is None
    return sides.pop() if plain and len(sides) == 1 else 0


def _fits(x: Tensor, size: int) -> bool:
    return x.device.type == "cpu" and all(side % size == 0 for side in x.shape[-2:])


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
