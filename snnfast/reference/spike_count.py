"""Spike counts in plain PyTorch: what the kernels of ``snnfast.ops.spike_count`` must compute."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import check

from .lif import iaf


def spike_count(
    x: Tensor,
    v: Tensor | None = None,
    count: Tensor | None = None,
    *,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = None,
) -> tuple[Tensor, Tensor]:
    """See :func:`snnfast.ops.spike_count`."""
    v_threshold, v_reset = check_arguments(x, v, count, v_threshold, v_reset)
    spikes, v = iaf(x, v, v_threshold=v_threshold, v_reset=v_reset)
    assert v is not None
    count = torch.zeros_like(v) if count is None else count.clone()
    for s in spikes.to(count.dtype):
        count += s
    return count, v


def check_arguments(
    x: Tensor,
    v: Tensor | None,
    count: Tensor | None,
    v_threshold: float | Tensor,
    v_reset: float | None,
) -> tuple[float | Tensor, float | None]:
    """Checks the arguments of :func:`spike_count`; returns threshold and reset."""
    check.sequence("spike_count", x)
    check.state("spike_count", "v", v, x)
    check.state("spike_count", "count", count, x)
    threshold = check.parameter("spike_count", "v_threshold", v_threshold, x)
    reset = None if v_reset is None else check.number("spike_count", "v_reset", v_reset)
    given = (x, v, count, threshold)
    if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in given):
        raise RuntimeError(
            "spike_count: a gradient was asked for, but counts have none; use "
            "snnfast.ops.iaf(x)[0].sum(0), or torch.no_grad()"
        )
    return threshold, reset
