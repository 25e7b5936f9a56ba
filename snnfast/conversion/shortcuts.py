"""Layers by a way that is faster for spikes on the CPU; docs/benchmarks.md has what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from snnfast import ops
from snnfast.nn.spike_conv2d import has_events

# From so many weights on a product looks for inputs that are 0.
SPARSE_WEIGHTS = 1 << 18


def shortcut_of(layer: nn.Module | None, *, is_sparse: bool) -> Callable[[Tensor], Tensor] | None:
    """Return a faster function with the results of ``layer``, except for rounding; None if there is none.

    Args:
        layer: a layer, whose weights are not changed while the result is in use.
        is_sparse: its input is spikes, or averages of them.
    """
    if isinstance(layer, nn.Linear) and is_sparse and is_worth_skipping(layer.weight):
        weight, bias = input_major(layer.weight.detach()), layer.bias
        return lambda x: ops.spike_linear(x, weight, bias)
    if isinstance(layer, nn.Conv2d) and is_sparse and has_events(layer):
        kernel, shift = layer.weight.detach(), layer.bias
        stride, padding = layer.stride, cast(tuple[int, int], layer.padding)
        return lambda x: ops.spike_conv2d(x, kernel, shift, stride=stride, padding=padding)
    if isinstance(layer, nn.AvgPool2d) and (size := _window(layer)):
        return lambda x: average_pool(x, size) if _fits(x, size) else layer(x)
    return None


def is_worth_skipping(weight: Tensor) -> bool:
    """Whether it is worth the time to look for inputs of such a product that are 0."""
    known = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
    return known and weight.numel() >= SPARSE_WEIGHTS


def input_major(weight: Tensor) -> Tensor:
    """A copy in which each input's weights lie side by side: ``spike_linear`` reads it where it lies."""
    outputs, inputs = weight.shape
    # Rows a multiple of 1,024 bytes apart would meet in a few sets of the caches.
    apart = outputs + (16 if outputs * weight.element_size() % 1024 == 0 else 0)
    return weight.new_empty(inputs, apart)[:, :outputs].copy_(weight.t()).t()


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
