"""Networks that know nothing of each other, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def one_by_one(
    call: Any, equation: Callable[[Any], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Counts and spikes by ``equation``: of the one network of ``call``, or ``[K, ...]`` of each of its K alone."""
    if call.w.dim() == 2:
        return equation(call)
    networks, P, N = call.w.shape[0], call.x.shape[0], call.w.shape[1]
    counts = call.w.new_zeros((networks, P, N), dtype=torch.int32)
    spikes = call.w.new_zeros((networks, P, call.steps, N), dtype=torch.bool)
    for k in range(networks):
        counts[k], spikes[k] = equation(call.network(k))
    return counts, spikes
