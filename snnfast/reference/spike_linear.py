"""Linear map of spikes, input by input."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from snnfast import check

from .autocast import autocast
from .call import reference_op

OP = "spike_linear"


Method = Literal["auto", "events", "dense"]


METHODS = get_args(Method)
# Limits of int8 weights; csrc/core/spike_linear.h
MOST_INPUTS, MOST_BIAS = 65535, 2**30


class SpikeLinearCall(NamedTuple):
    """See :func:`spike_linear`; ``method`` is an index in ``METHODS``."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    method: int


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of sums of weights of ``dtype``."""
    return torch.int32 if dtype == torch.int8 else check.state_dtype(dtype)


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of ``y``, and of the bias, for weights of ``dtype``."""
    return torch.int32 if dtype == torch.int8 else dtype


def check_bias(op: str, bias: Tensor, other: str, like: Tensor) -> None:
    """Check that a bias has the device and dtype of ``like``, the argument ``other``; int32 for int8."""
    if like.dtype != torch.int8:
        check.same_dtype_and_device(op, "bias", bias, other, like)
    check.dtype(op, "bias", bias.dtype, (result_dtype(like.dtype),))
    check.on_device(op, "bias", bias, other, like.device)


def check_whole(op: str, inputs: int, bias: Tensor | None, method: str) -> None:
    """Refuse int8 sums that may overflow int32, and the dense method, which has none."""
    if method == "dense":
        raise ValueError(f"{op}: int8 weights are summed by events; use method='auto', got 'dense'")
    if inputs > MOST_INPUTS:
        raise ValueError(
            f"{op}: an output of int8 weights must have at most {MOST_INPUTS} inputs, whose sum fits in 32 bits, got "
            f"{inputs}"
        )
    if bias is not None:
        check.in_range(op, "bias", bias, -MOST_BIAS, MOST_BIAS)


def _spike_linear(call: SpikeLinearCall) -> Tensor:
    dtype = sum_dtype(call.weight.dtype)
    x, weight = call.x.to(dtype), call.weight.to(dtype)
    y = x.new_zeros(*x.shape[:-1], len(weight))
    if call.bias is not None:
        y = y + call.bias.to(dtype)
    for x_i, weight_i in zip(x.split(1, -1), weight.unbind(1)):
        y = y + x_i * weight_i
    return y.to(result_dtype(call.weight.dtype))


@reference_op(_spike_linear)
def spike_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, method: Method = "auto") -> SpikeLinearCall:
    """A linear map of spikes: :func:`torch.nn.functional.linear`, which skips products with 0 on the CPU.

        y[..., o] = bias[o] + sum over i of x[..., i] weight[o, i]

    Gradients are those of this equation, for ``x``, ``weight`` and ``bias``::

        dL/dx[..., i]    = sum over o of dL/dy[..., o] weight[o, i]
        dL/dweight[o, i] = sum over all ... of x[..., i] dL/dy[..., o]

    By events, ``y`` and the gradient of ``weight`` are sums over the ``x`` that are not 0, in their order, in float64
    for float64 and else in float32, and are the same for any number of threads; that of ``weight`` is summed in blocks
    of at most 1024 rows. An ``x`` of 0 then adds nothing, even if its weight is infinite or NaN. The gradient of ``x``
    is a dense matrix product, or for up to 16 outputs in float32 and float64 a sum in the order of ``o``. Second
    derivatives raise an error. For the backward pass one bit of each ``x`` is saved if all are 0 or 1, else ``x``
    itself.

    Weights of int8 are for trained networks (:func:`snnfast.export.integer`): ``y`` and ``bias`` are then int32, ``x``
    is int8 or bool, sums are always by events and exact, and there are no gradients. An output has at most 65,535
    inputs, and its bias is at most ``2**30``: no sum overflows.

    On CUDA PyTorch's dense product runs, for int8 in float64, which is exact, too. Under ``torch.autocast`` all
    arguments are cast as for ``linear``.

    Args:
        x: ``[..., in]``, any strides; any values, in the dtype of ``weight``, or bool.
        weight: ``[out, in]``, float32, float64, bfloat16, float16 or int8, any strides. If the weights of each input
            are contiguous (``w.t()`` of a ``w`` ``[in, out]``), they are not copied.
        bias: ``[out]``, in the dtype of ``y``, or None.
        method: ``"events"``; ``"dense"``, PyTorch's product; or ``"auto"``, which counts the ``x`` that are not 0 and
            chooses events if they are few, by the rule in ``docs/ops/spike_linear.md``.

    Returns:
        ``y`` ``[..., out]``, in the dtype of ``weight``; int32 for int8.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype or device.
        RuntimeError: for second derivatives, and forward-mode differentiation by events.
    """
    check.tensor(OP, "x", x)
    check.tensor(OP, "weight", weight)
    if bias is not None:
        check.tensor(OP, "bias", bias)
    check.choice(OP, "method", method, METHODS)
    x, weight, bias = autocast(x, weight, bias)
    check.dtype(OP, "weight", weight.dtype, (*check.FLOATING, torch.int8))
    check.shape(OP, "weight", weight, ("out", "in"))
    outputs, inputs = weight.shape
    if x.dim() == 0 or x.shape[-1] != inputs:
        raise ValueError(
            f"{OP}: x must have shape [..., {inputs}] for a weight of shape {list(weight.shape)}, got {list(x.shape)}"
        )
    if x.dtype not in (weight.dtype, torch.bool):
        raise TypeError(f"{OP}: x must have the dtype of weight, {weight.dtype}, or torch.bool, got {x.dtype}")
    check.on_device(OP, "weight", weight, "x", x.device)
    if bias is not None:
        check.shape(OP, "bias", bias, (outputs,))
        check_bias(OP, bias, "weight", weight)
    if weight.dtype == torch.int8:
        check_whole(OP, inputs, bias, method)
    return SpikeLinearCall(x=x, weight=weight, bias=bias, method=METHODS.index(method))
