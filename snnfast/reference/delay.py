"""Delays by real numbers of steps, with the triangular kernel of DelRec; its narrowest is linear interpolation."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.check import state_dtype

from .call import Parameter, reference_op


class DelayCall(NamedTuple):
    """See :func:`delay`."""

    x: Tensor
    d: Parameter
    past: Tensor | None
    sigma: float


def _delay(call: DelayCall) -> Tensor:
    x, dtype, neurons = call.x, state_dtype(call.x.dtype), call.x.shape[1:]
    past = x.new_zeros((0, *neurons)) if call.past is None else call.past
    steps, radius = len(past) + len(x), 1 + call.sigma
    reach = float(math.ceil(2 * radius))
    known = torch.cat([x.new_zeros((1, *neurons)), past, x]).to(dtype)  # row 0: no input
    time = torch.arange(1 + len(past), 1 + steps, device=x.device).view(-1, *(1,) * len(neurons))
    d = torch.as_tensor(call.d, dtype=dtype, device=x.device).expand(neurons).clamp(0.0, steps + reach)
    first = (d.detach() - radius).floor() + 1
    y = torch.zeros(x.shape, dtype=dtype, device=x.device)
    for k in range(int(min(reach, steps))):
        j = first.clamp(min=0) + k
        outside = (j > d.detach() + radius) | (j >= first + reach)
        height = torch.where(j <= d, radius - (d - j), radius - (j - d))
        weight = torch.where(outside, 0, height * (1 / (radius * radius)))
        rows = (time - j.long()).clamp(0, steps)
        y = y + weight * known.gather(0, rows)
    return y.to(x.dtype)


@reference_op(_delay)
def delay(x: Tensor, d: float | Tensor, past: Tensor | None = None, *, sigma: float = 0.0) -> DelayCall:
    """Delay ``x`` by ``d`` steps, a real number, with linear interpolation between two steps.

    For every neuron and ``t = 0 ... T-1``, with ``n = floor(d)`` and ``f = d - n``::

        y[t] = (1 - f) x[t - n] + f x[t - n - 1]

    where ``x[-1], x[-2], ...`` are the steps of ``past``, and 0 before them. ``sigma`` above 0 spreads each step over
    its neighbours by a triangular kernel, so that the gradient of ``d`` depends on more than the next step. Reduce it
    to 0 during training; at 0 the two equations agree::

        y[t] = sum over j >= 0 of max(0, 1 + sigma - |j - d|) / (1 + sigma)^2 x[t - j]

    Gradients flow to ``x``, ``d`` and ``past``. If ``d`` is a whole number, its gradient is the right-hand derivative:
    ``dy[t]/dd = x[t - n - 1] - x[t - n]``.

    Args:
        x: sequence ``[T, ...]``; float32, float64, bfloat16 or float16, any strides.
        d: delay in steps, at least 0; a number, or a tensor that broadcasts to ``x.shape[1:]`` (one per channel:
            ``[C, 1, 1]``), float64 for float64 ``x``, else float32. The values of a tensor are not checked: a delay
            below 0 counts as 0 and has no gradient; a delay that is longer than ``past`` and ``x`` by ``sigma`` or more
            has none either; NaN makes the output of its neuron NaN.
        past: the inputs before the first step, ``[P, *x.shape[1:]]``, the latest last, in the dtype of ``x``; with
            ``P >= d + sigma + 1`` a sequence in parts gives the same bits as the whole.
        sigma: steps by which the kernel is wider than linear interpolation, on each side; at least 0.

    Returns:
        ``y``, like ``x``. A step that is infinite or NaN reaches every output in whose sum it appears, even with weight
        0: for a whole ``d`` the weights are 1 and 0.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.

    Source: the triangle is that of DelRec (Queant et al. 2025), after DCLS (Hammouamri et al., ICLR 2024).
    """
    check.sequence("delay", x)
    d = check.parameter("delay", "d", d, x)
    if not isinstance(d, Tensor):
        check.at_least_zero("delay", "d", d)
    if past is not None:
        check.shape("delay", "past", past, ("P", *x.shape[1:]))
        check.same_dtype_and_device("delay", "past", past, "x", x)
    return DelayCall(x=x, d=d, past=past, sigma=check.at_least_zero("delay", "sigma", sigma))
