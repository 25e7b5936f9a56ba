"""A linear map, input by input."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from snnfast import check
from snnfast.check import state_dtype

from .autocast import autocast
from .call import reference_op

OP = "spike_linear"


Method = Literal["auto", "events", "dense"]


METHODS = get_args(Method)


class SpikeLinearCall(NamedTuple):
    """See :func:`spike_linear`; ``method`` is a place in ``METHODS``."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    method: int


def _spike_linear(call: SpikeLinearCall) -> Tensor:
    dtype = state_dtype(call.weight.dtype)
    x, weight = call.x.to(dtype), call.weight.to(dtype)
    y = x.new_zeros(*x.shape[:-1], len(weight))
    if call.bias is not None:
        y = y + call.bias.to(dtype)
    for x_i, weight_i in zip(x.split(1, -1), weight.unbind(1)):
        y = y + x_i * weight_i
    return y.to(call.weight.dtype)


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
    derivatives raise an error. For the backward pass one bit of each ``x`` is kept if all are 0 or 1, else ``x``
    itself.

    On CUDA it is PyTorch's dense product. Under ``torch.autocast`` all arguments are cast as for ``linear``.

    Args:
        x: ``[..., in]``, any strides; any values, in the dtype of ``weight``, or bool.
        weight: ``[out, in]``, float32, float64, bfloat16 or float16, any strides. If the weights of each input are
            contiguous (``w.t()`` of a ``w`` ``[in, out]``), they are not copied.
        bias: ``[out]``, in the dtype of ``weight``, or None.
        method: ``"events"``; ``"dense"``, PyTorch's product; or ``"auto"``, which counts the ``x`` that are not 0 and
            chooses events if they are few, by the rule in ``docs/ops/spike_linear.md``.

    Returns:
        ``y`` ``[..., out]``, in the dtype of ``weight``.

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
    check.dtype(OP, "weight", weight.dtype, check.FLOATING)
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
        check.beside(OP, "bias", bias, "weight", weight)
    return SpikeLinearCall(x=x, weight=weight, bias=bias, method=METHODS.index(method))
