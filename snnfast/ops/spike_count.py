"""Integrate-and-fire neurons of which only the number of spikes is kept, for all time steps at once."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import backend, reference
from snnfast.check import state_dtype
from snnfast.reference.spike_count import check_arguments

from .layout import dense_order, inverse, parameter_run, permute_neurons


def spike_count(
    x: Tensor,
    v: Tensor | None = None,
    count: Tensor | None = None,
    *,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Number of spikes of integrate-and-fire neurons over all time steps of ``x``; no spike train is written.

    The neurons are those of :func:`snnfast.ops.iaf`, and fire at the same steps::

        h[t] = v[t-1] + x[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset a number)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)
        count = count + sum over t of s[t]

    The readout of converted networks (Diehl et al. 2015), and of any layer of which only rates are read: a long run is
    a few calls over chunks of steps, with ``v`` and ``count`` of one call given to the next. Counts have no gradient.

    Args:
        x: input current ``[T, ...]``; float32, float64, bfloat16 or float16, any strides; a current that is the same at
            every step may be expanded over time, and is read once.
        v: membrane before the first step, ``x.shape[1:]``, float64 for float64 ``x``, else float32; ``v_reset``, or 0
            with soft reset, if None.
        count: spikes before the first step, like ``v``; 0 if None. Exact up to 2**24 in float32.
        v_threshold: threshold; a number, or a tensor that broadcasts to ``x.shape[1:]`` (one per channel:
            ``[C, 1, 1]``), in the dtype of ``v``.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead.

    Returns:
        ``(count, v)`` after the last step, ``x.shape[1:]`` each, in the dtype of ``v``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
        RuntimeError: where a gradient would be needed.
    """
    threshold, reset = check_arguments(x, v, count, v_threshold, v_reset)
    kernels = backend.library("spike_count", x)
    if kernels is None:
        return reference.spike_count(x, v, count, v_threshold=threshold, v_reset=reset)
    order = dense_order(x)
    if order is not None:
        x = x.permute(order)
        v, count, threshold = (permute_neurons(a, order) for a in (v, count, threshold))  # type: ignore[assignment]
    number, tensor = threshold, None
    if isinstance(threshold, Tensor):
        number, tensor = 0.0, parameter_run(threshold, x.shape[1:])
    results: tuple[Tensor, Tensor] = kernels.spike_count(x, v, count, number, tensor, reset)
    if order is None:
        return results
    back = inverse(order)
    return permute_neurons(results[0], back), permute_neurons(results[1], back)  # type: ignore[return-value]


def register(namespace: str) -> None:
    """Makes the kernel in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::spike_count")
    def _(x: Tensor, *args: object) -> tuple[Tensor, Tensor]:
        def neurons() -> Tensor:
            return x.new_empty(x.shape[1:], dtype=state_dtype(x.dtype))

        return neurons(), neurons()
