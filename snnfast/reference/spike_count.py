"""Spike counts of integrate-and-fire neurons: Diehl et al. 2015."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .call import Parameter, reference_op
from .lif import iaf


class SpikeCountCall(NamedTuple):
    """See :func:`spike_count`."""

    x: Tensor
    v: Tensor | None
    count: Tensor | None  # type: ignore[assignment]  # a tuple has a method of this name
    v_threshold: Parameter
    v_reset: float | None


def _spike_count(call: SpikeCountCall) -> tuple[Tensor, Tensor]:
    spikes, v = iaf(call.x, call.v, v_threshold=call.v_threshold, v_reset=call.v_reset)
    count = torch.zeros_like(v) if call.count is None else call.count.clone()
    for s in spikes.to(count.dtype):
        count += s
    return count, v


@reference_op(_spike_count)
def spike_count(
    x: Tensor,
    v: Tensor | None = None,
    count: Tensor | None = None,
    *,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = None,
) -> SpikeCountCall:
    """Number of spikes of integrate-and-fire neurons over all time steps of ``x``; spikes are not stored.

    The neurons are those of :func:`snnfast.ops.iaf`, and fire at the same steps::

        h[t] = v[t-1] + x[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset a number)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)
        count = count + sum over t of s[t]

    This is the readout of converted networks (Diehl et al. 2015), and of any layer of which only rates are needed. You
    may split a long run into calls over chunks of steps; pass ``v`` and ``count`` of one call to the next. Counts have
    no gradient.

    Args:
        x: input current ``[T, ...]``; float32, float64, bfloat16 or float16, any strides; a current that is the same at
            every step may be expanded over time, and is read once.
        v: membrane before the first step, ``x.shape[1:]``, float64 for float64 ``x``, else float32; ``v_reset``, or 0
            with soft reset, if None.
        count: number of spikes before the first step, like ``v``; 0 if None. Exact up to 2**24 in float32.
        v_threshold: threshold; a number, or a tensor that broadcasts to ``x.shape[1:]`` (one per channel:
            ``[C, 1, 1]``), in the dtype of ``v``.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead.

    Returns:
        ``(count, v)`` after the last step, ``x.shape[1:]`` each, in the dtype of ``v``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
        RuntimeError: if a gradient is needed.
    """
    check.sequence("spike_count", x)
    check.state("spike_count", "v", v, x)
    check.state("spike_count", "count", count, x)
    call = SpikeCountCall(
        x=x,
        v=v,
        count=count,
        v_threshold=check.parameter("spike_count", "v_threshold", v_threshold, x),
        v_reset=None if v_reset is None else check.number("spike_count", "v_reset", v_reset),
    )
    if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in call):
        raise RuntimeError(
            "spike_count: a gradient was asked for, but counts have none; use "
            "snnfast.ops.iaf(x)[0].sum(0), or torch.no_grad()"
        )
    return call
