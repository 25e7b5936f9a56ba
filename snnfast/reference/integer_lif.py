"""Leaky integrate-and-fire neurons in 32-bit integers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .call import reference_op

OP = "integer_lif"
MOST_CURRENT = 2**29
MOST_MEMBRANE = 2**30 - 1
DECAY = 2**15  # a decay of 1


class IntegerLifCall(NamedTuple):
    """See :func:`integer_lif`; ``channel`` is the dimension of ``x`` along which ``gain`` and ``bias`` vary."""

    x: Tensor
    v: Tensor | None
    gain: Tensor
    bias: Tensor
    decay: int
    v_threshold: int
    v_reset: int
    limit: int
    reads: bool
    hard_reset: bool
    channel: int


def _integer_lif(call: IntegerLifCall) -> tuple[Tensor, Tensor, Tensor]:
    x, limit = call.x, call.limit
    along = [-1 if d == call.channel else 1 for d in range(1, x.dim())]
    check.in_range(OP, "gain", call.gain, 0, MOST_CURRENT)
    check.in_range(OP, "bias", call.bias, -MOST_CURRENT, MOST_CURRENT)
    current = x.long() * call.gain.view(along)
    check.in_range(OP, "x gain", current, -MOST_CURRENT, MOST_CURRENT)
    v = torch.zeros_like(x[:1].sum(0)) if call.v is None else call.v.long().clamp(-limit, limit)
    saturated, rows = v.new_zeros(()), []
    for row in current + call.bias.view(along):
        h = (v * call.decay >> 15) + row
        v = h.clamp(-limit, limit)
        saturated = saturated + (v != h).sum()
        if not call.reads:
            fired = v >= call.v_threshold
            v = torch.where(fired, call.v_reset if call.hard_reset else v - call.v_threshold, v)
            rows.append(fired.to(torch.int8))
        else:
            rows.append(v.int())
    y = torch.stack(rows) if rows else x.new_empty(x.shape, dtype=torch.int32 if call.reads else torch.int8)
    return y, v.int(), saturated


@reference_op(_integer_lif)
def integer_lif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    gain: Tensor,
    bias: Tensor,
    decay: int = DECAY // 2,
    v_threshold: int | None = 2**24,
    v_reset: int | None = 0,
    limit: int = MOST_MEMBRANE,
) -> IntegerLifCall:
    """Leaky integrate-and-fire neurons in 32-bit integers: bit-identical on every machine.

    For every neuron of channel ``c`` and ``t = 0 ... T-1``::

        h[t] = clamp(floor(decay v[t-1] / 2^15) + gain[c] x[t] + bias[c], -limit, limit)
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset given)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)

    Nothing wraps: a membrane beyond ``limit`` saturates and is counted; a current beyond ``2**29`` raises an error.
    There are no gradients: train with :func:`snnfast.nn.quantize`, and convert with :func:`snnfast.export.integer`;
    :func:`snnfast.export_c` writes these neurons in C. On CUDA they run in plain PyTorch.

    Args:
        x: ``[T, B, C, ...]``, int32: sums of integer weights, from :func:`snnfast.ops.spike_linear` and
            :func:`snnfast.ops.spike_conv2d`; any strides.
        v: membrane before the first step, ``x.shape[1:]``, int32; 0 if None; values beyond ``limit`` saturate.
        gain: ``[C]``, int32, 0 to ``2**29``.
        bias: ``[C]``, int32, at most ``2**29`` in magnitude.
        decay: decay of the membrane times ``2**15``, 0 to ``2**15``.
        v_threshold: threshold, 1 to ``limit``; if None, neurons never fire, and ``y`` has the membranes.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead.
        limit: largest magnitude of a membrane, at most ``2**30 - 1``; ``2**15 - 1`` for 16 bits.

    Returns:
        ``(y, v, saturated)``: spikes ``[T, B, C, ...]``, int8, or membranes, int32; the membrane after the last step;
        and the number of saturations, int64 without dimensions.

    Raises:
        TypeError, ValueError, RuntimeError: for arguments of wrong type, shape, dtype, device or range.
    """
    check.tensor(OP, "x", x)
    check.dtype(OP, "x", x.dtype, (torch.int32,))
    if x.dim() < 3:
        raise ValueError(f"{OP}: x must have shape [T, B, C, ...], got {list(x.shape)}")
    check.elements(OP, "x", x.shape)
    if v is not None:
        check.shape(OP, "v", v, x.shape[1:])
        check.same_dtype_and_device(OP, "v", v, "x", x)
    for name, value in (("gain", gain), ("bias", bias)):  # the kernel and the reference check the values
        check.shape(OP, name, value, x.shape[2:3])
        check.same_dtype_and_device(OP, name, value, "x", x)
    limit = check.integer(OP, "limit", limit, 1, MOST_MEMBRANE)
    decay = check.integer(OP, "decay", decay, 0, DECAY)
    reads, hard = v_threshold is None, v_reset is not None
    threshold = check.integer(OP, "v_threshold", v_threshold, 1, limit) if not reads else 1
    reset = check.integer(OP, "v_reset", v_reset, -limit, limit) if hard else 0
    return IntegerLifCall(x, v, gain, bias, decay, threshold, reset, limit, reads, hard, channel=2)
