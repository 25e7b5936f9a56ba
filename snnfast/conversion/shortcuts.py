"""Faster functions for layers with spike inputs on the CPU; docs/benchmarks.md has the measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from snnfast import ops
from snnfast.nn.spike_conv2d import has_events

# Number of weights from which a product skips inputs that are 0.
SPARSE_WEIGHTS = 1 << 18


def shortcut_of(layer: nn.Module | None, *, is_sparse: bool) -> Callable[[Tensor], Tensor] | None:
    """Return a faster function with the results of ``layer``, except for rounding; None if there is none.

    Args:
        layer: a layer; its weights must not change while the result is in use.
        is_sparse: its input is spikes, or averages of spikes.
    """
    if isinstance(layer, nn.Linear) and is_sparse and is_worth_skipping(layer.weight):
        weight, bias = input_major(layer.weight.detach()), layer.bias
        return lambda x: ops.spike_linear(x, weight, bias)
    if isinstance(layer, nn.Conv2d) and is_sparse and has_events(layer):
        kernel, shift = layer.weight.detach(), layer.bias
        stride, padding = layer.stride, cast(tuple[int, int], layer.padding)
        return lambda x: ops.spike_conv2d(x, kernel, shift, stride=stride, padding=padding)
    if isinstance(layer, nn.AvgPool2d) and (size := _window(layer)):
        return lambda x: average_pool(x, size) if _divides(x, size) else layer(x)
    return None


def absorb(product: nn.Module, size: Tensor) -> Tensor:
    """Return the weights of a product times the size of its input spikes: a number, or one a channel."""
    weight: Tensor = product.weight.detach()  # type: ignore[operator]
    size = size.to(weight.dtype)
    if size.numel() == 1:
        return weight * size.view(())
    channels, groups = size.numel(), getattr(product, "groups", 1)
    grouped = weight.reshape(groups, weight.shape[0] // groups, channels // groups, -1)
    return (grouped * size.view(groups, 1, channels // groups, 1)).view_as(weight)


def is_worth_skipping(weight: Tensor) -> bool:
    """Return whether skipping inputs that are 0 saves time for a product with these weights."""
    known = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
    return known and weight.numel() >= SPARSE_WEIGHTS


def input_major(weight: Tensor) -> Tensor:
    """Return a copy in which the weights of each input are contiguous, the layout that ``spike_linear`` reads."""
    outputs, inputs = weight.shape
    # Rows with a stride of a multiple of 1,024 bytes would share a few cache sets.
    stride = outputs + (16 if outputs * weight.element_size() % 1024 == 0 else 0)
    return weight.new_empty(inputs, stride)[:, :outputs].copy_(weight.t()).t()


def average_pool(x: Tensor, size: int) -> Tensor:
    """Average windows of ``size`` by ``size`` without overlap; adds whole rows first, which vectorises."""
    rows = x[..., ::size, :]
    for i in range(1, size):
        rows = rows + x[..., i::size, :]
    sums = rows[..., ::size]
    for i in range(1, size):
        sums = sums + rows[..., i::size]
    return sums.mul_(1 / size**2) if size > 1 else x


def _window(pool: nn.AvgPool2d) -> int:
    """Return the side of a pool with square windows without overlap or gaps; 0 for another pool."""
    sides = {*_pair(pool.kernel_size), *_pair(pool.stride)}
    plain = _pair(pool.padding) == (0, 0) and not pool.ceil_mode and pool.divisor_override is None
    return sides.pop() if plain and len(sides) == 1 else 0


def _divides(x: Tensor, size: int) -> bool:
    return x.device.type == "cpu" and all(side % size == 0 for side in x.shape[-2:])
