"""Calls with several independent networks, which the reference runs one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .call import fields_of_kind


def part(value: Tensor | None, dim: int, k: int) -> Tensor | None:
    """Return the part of ``value`` for network ``k``, or all of ``value`` if it has ``dim`` dimensions (shared)."""
    return value if value is None or value.dim() == dim else value[k]


def networks_of(w: Tensor) -> int | None:
    """Return the number of networks of the weights ``w``; None for weights [N, I] of a single network."""
    return w.shape[0] if w.dim() == 3 else None


def of_network(value: Any, k: int) -> Any:
    """Return the setting of network ``k``, one number or several: ``value`` itself if all networks share it."""
    return value[k].tolist() if isinstance(value, Tensor) else value


def of_networks(w: Tensor, *values: float | list[float]) -> Tensor:
    """Return settings of all networks ``[K, values]`` in float64, as exact as the number of a single network."""
    columns = [v if isinstance(v, list) else [v] * w.shape[0] for v in values]
    return torch.tensor(columns, dtype=torch.float64).mT.contiguous().to(w.device)


def numbers(value: Any) -> list[float]:
    """Return the numbers in which networks of a call may differ: a number, or those of a named tuple, in order."""
    if not isinstance(value, tuple):
        return [float(value)]
    names = fields_of_kind(type(value), float)
    return [float(getattr(value, name)) for name in names]


def with_numbers(value: Any, new_numbers: Iterator[float]) -> Any:
    """Return ``value`` with its :func:`numbers` replaced by the next ones of an iterator."""
    if not isinstance(value, tuple):
        return next(new_numbers)
    names = fields_of_kind(type(value), float)
    return value._replace(**{name: next(new_numbers) for name in names})  # type: ignore[attr-defined]


def one_by_one(call: Any, equation: Callable[[Any], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return counts and spikes by ``equation``: of a single network, or ``[K, ...]`` of K networks, one by one."""
    if call.w.dim() == 2:
        return equation(call)
    networks, P, N = call.w.shape[0], call.x.shape[0], call.w.shape[1]
    counts = call.w.new_zeros((networks, P, N), dtype=torch.int32)
    spikes = call.w.new_zeros((networks, P, call.steps, N), dtype=torch.bool)
    for k in range(networks):
        counts[k], spikes[k] = equation(call.network(k))
    return counts, spikes
