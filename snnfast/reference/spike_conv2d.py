"""Convolution of spikes, weight by weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from snnfast import check

from .autocast import autocast
from .call import reference_op
from .spike_linear import check_bias, check_whole, result_dtype, sum_dtype

OP = "spike_conv2d"


Method = Literal["auto", "events", "dense"]


METHODS = get_args(Method)


class SpikeConv2dCall(NamedTuple):
    """See :func:`spike_conv2d`; ``method`` is an index in ``METHODS``."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride_h: int
    stride_w: int
    padding_h: int
    padding_w: int
    method: int


def _spike_conv2d(call: SpikeConv2dCall) -> Tensor:
    dtype = sum_dtype(call.x.dtype)
    h, w = call.padding_h, call.padding_w
    x, weight = pad(call.x.to(dtype), (w, w, h, h)), call.weight.to(dtype)
    kh, kw = weight.shape[2:]
    rows, columns = x.shape[2] - kh + 1, x.shape[3] - kw + 1  # pixels under the first weight of the kernel
    down, right = call.stride_h, call.stride_w
    y = x.new_zeros(len(x), len(weight), -(-rows // down), -(-columns // right))
    if call.bias is not None:
        y = y + call.bias.to(dtype)[:, None, None]
    for r in range(kh):
        for s in range(kw):
            seen = x[:, :, r : r + rows : down, s : s + columns : right]
            y = y + torch.einsum("ncij,oc->noij", seen, weight[:, :, r, s])
    return y.to(result_dtype(call.x.dtype))


@reference_op(_spike_conv2d)
def spike_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    method: Method = "auto",
) -> SpikeConv2dCall:
    """A convolution of spikes: :func:`torch.nn.functional.conv2d`, which skips products with 0 on the CPU.

    That is::

        y[n, o, i, j] = bias[o] + sum over c, r, s of
                        x[n, c, stride_h i + r - padding_h, stride_w j + s - padding_w] weight[o, c, r, s]

    where ``x`` is 0 outside of the image; the dilation is 1. Gradients are those of this equation. By events, ``y`` and
    the gradient of ``weight`` are sums over the ``x`` that are not 0, in a fixed order, the same for any number of
    threads. With a stride of 1 the gradient of ``x``, a convolution of ``dL/dy``, is also such a sum if few ``dL/dy``
    are not 0, as after max pooling; else, in float32 and with kernels of 3 x 3, it is Winograd's where that is faster,
    with errors of 1e-5 of the largest (``docs/accuracy.md``). Only ``method="auto"`` uses Winograd's, and only for this
    gradient. The gradient of ``bias`` is PyTorch's. If all ``x`` are 0 or 1 and the gradient of ``weight`` is by
    events, one bit of each is saved for the backward pass instead of ``x``, which then may change. By events an ``x``
    of 0 adds nothing, even if its weight is infinite or NaN. Weights of int8 are as in
    :func:`snnfast.ops.spike_linear`: ``x`` is int8, too, ``y`` and ``bias`` are int32. On CUDA, for 16-bit dtypes,
    under ``torch.autocast``, ``torch.compile``, ``torch.vmap`` and other transforms, PyTorch's convolution runs.

    Args:
        x: ``[N, C, H, W]``, any values; read in place if channels-last.
        weight: ``[O, C, kh, kw]``, in the dtype of ``x``.
        bias: ``[O]``, in the dtype of ``y``, or None.
        stride: pixels from one output to the next: a number, or one for rows and one for columns.
        padding: zeros on each side, less than the kernel's size: a number, or one for rows and one for columns.
        method: ``"events"``, for float32, float64 and int8; ``"dense"``, PyTorch's convolution; or ``"auto"``, which
            counts the ``x`` that are not 0 and chooses events if they are few, by the rule in
            ``docs/ops/spike_conv2d.md``; many weights on few pixels are one matrix product.

    Returns:
        ``y`` ``[N, O, (H + 2 padding_h - kh) // stride_h + 1, (W + 2 padding_w - kw) // stride_w + 1]``, in the
        dtype of ``x``, int32 for int8; on the CPU in float32, float64 and int8 channels-last in memory, except with
        ``"dense"``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype or device.
        RuntimeError: for second derivatives and forward-mode differentiation by events.
    """
    check.tensor(OP, "x", x)
    check.dtype(OP, "x", x.dtype, (*check.FLOATING, torch.int8))
    check.shape(OP, "x", x, "NCHW")
    if 0 in x.shape[2:]:
        raise ValueError(f"{OP}: x must have pixels, got shape {list(x.shape)}")
    check.choice(OP, "method", method, METHODS)
    if method == "events" and x.dtype in (torch.bfloat16, torch.float16):
        raise TypeError(f"{OP}: method='events' takes x of float32, float64 or int8, got {x.dtype}; use 'auto'")
    check.tensor(OP, "weight", weight)
    if weight.dim() != 4 or weight.shape[1] != x.shape[1] or 0 in (len(weight), *weight.shape[2:]):
        raise ValueError(f"{OP}: weight must have shape [O, {x.shape[1]}, kh, kw], got {list(weight.shape)}")
    if bias is not None:
        check.shape(OP, "bias", bias, weight.shape[:1])
    x, weight, bias = autocast(x, weight, bias)
    if bias is not None:
        check_bias(OP, bias, "x", x)
    check.same_dtype_and_device(OP, "weight", weight, "x", x)
    if x.dtype == torch.int8:
        check_whole(OP, weight[0].numel(), bias, method)
    stride_h, stride_w = _two("stride", stride, 1)
    padding_h, padding_w = _two("padding", padding, 0)
    for side, kernel, size in zip((padding_h, padding_w), weight.shape[2:], x.shape[2:]):
        if side >= kernel:
            raise ValueError(f"{OP}: padding must be less than the kernel's {kernel}, got {side}")
        if size + 2 * side < kernel:
            raise ValueError(
                f"{OP}: the kernel {list(weight.shape[2:])} is larger than the images "
                f"{list(x.shape[2:])} with their padding"
            )
    sides = stride_h, stride_w, padding_h, padding_w
    return SpikeConv2dCall(x, weight, bias, *sides, METHODS.index(method))


def _two(name: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    """Return a number for rows and one for columns."""
    sides = (value, value) if isinstance(value, check.INTEGERS) else value
    if not isinstance(sides, Sequence) or isinstance(sides, str) or len(sides) != 2:
        raise TypeError(f"{OP}: {name} must be a number or two, got {check.shown(value)}")
    return check.integer(OP, name, sides[0], least), check.integer(OP, name, sides[1], least)
