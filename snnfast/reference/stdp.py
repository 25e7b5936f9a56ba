"""Spike-timing-dependent plasticity in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast.plasticity import Rule


def trace(rule: Rule, decayed: Tensor, spikes: Tensor) -> Tensor:
    """A trace after the decay and, where ``spikes`` is True, the spike."""
    return torch.where(spikes, decayed + 1 if rule.trace == "all" else 1.0, decayed)


def normalise(w: Tensor, rows: Tensor, norm: float, rule: Rule) -> None:
    """Scales the rows of ``w`` where ``rows`` is True to a sum of magnitudes ``norm``; rows of zeros stay.

    The sum is in float64 and in order; the result stays within the rule's bounds.
    """
    for j in rows.nonzero().flatten().tolist():
        total = w[j].double().abs().cumsum(0)[-1:]  # cumsum adds one after the other
        if total.numel() and total > 0:
            w[j] = (
                (w[j].double() * (torch.full_like(total, norm) / total))
                .to(w.dtype)
                .clamp(rule.w_min, rule.w_max)
            )
