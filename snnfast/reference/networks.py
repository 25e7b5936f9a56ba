"""Networks that know nothing of each other, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .call import fields_of_kind


def own(value: Tensor | None, dim: int, k: int) -> Tensor | None:
    """Return the part of ``value`` for network ``k``, or all of ``value`` if it has ``dim`` dimensions (shared)."""
    return value if value is None or value.dim() == dim else value[k]


def networks_of(w: Tensor) -> int | None:
    """How many networks have the weights ``w``; None for weights [N, I], of one alone."""
    return w.shape[0] if w.dim() == 3 else None


def of_network(value: Any, k: int) -> Any:
    """The setting of network ``k``, one number or several: ``value`` itself if all have the same."""
    return value[k].tolist() if isinstance(value, Tensor) else value


def of_networks(w: Tensor, *values: float | list[float]) -> Tensor:
    """Settings of each network ``[K, values]``, in float64: as exact as the number of one network alone."""
    each = [v if isinstance(v, list) else [v] * w.shape[0] for v in values]
    return torch.tensor(each, dtype=torch.float64).mT.contiguous().to(w.device)


def numbers(value: Any) -> list[float]:
    """A number, or those of a named tuple of settings, in order: what networks of one call may differ in."""
    if not isinstance(value, tuple):
        return [float(value)]
    names = fields_of_kind(type(value), float)
    return [float(getattr(value, name)) for name in names]


def with_numbers(value: Any, each: Iterator[float]) -> Any:
    """The same with other :func:`numbers`."""
    if not isinstance(value, tuple):
        return next(each)
    names = fields_of_kind(type(value), float)
    return value._replace(**{name: next(each) for name in names})  # type: ignore[attr-defined]


def one_by_one(call: Any, equation: Callable[[Any], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Counts and spikes by ``equation``: of the one network of ``call``, or ``[K, ...]`` of each of its K alone."""
    if call.w.dim() == 2:
        return equation(call)
    networks, P, N = call.w.shape[0], call.x.shape[0], call.w.shape[1]
    counts = call.w.new_zeros((networks, P, N), dtype=torch.int32)
    spikes = call.w.new_zeros((networks, P, call.steps, N), dtype=torch.bool)
    for k in range(networks):
        counts[k], spikes[k] = equation(call.network(k))
    return counts, spikes
