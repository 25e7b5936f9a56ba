"""Dispatch of :func:`snnfast.ops.spike_conv2d` to its kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import backend
from snnfast.reference.call import flatten, public_op
from snnfast.reference.first_order import refusal
from snnfast.reference.spike_conv2d import METHODS, SpikeConv2dCall
from snnfast.reference.spike_conv2d import spike_conv2d as reference
from snnfast.reference.spike_linear import result_dtype

from .autograd import has_values, traced
from .record import GradientRecord
from .spike_costs import fit
from .spike_linear import exactly

# Methods after those of a call, with weights [C, O, kh, kw] that the kernel reads flipped: "auto" or by Winograd, and
# "auto".
TURNED, TURNED_DIRECT = len(METHODS), len(METHODS) + 1
LARGE_WEIGHTS = 2  # times as many as pixels; kLargeWeights in csrc/ops/spike_conv2d.cpp
# One matrix product: at most so many output pixels, and at least so many weights.
FEW_PIXELS, MANY_WEIGHTS = 48, 2**16


@public_op(reference)
def spike_conv2d(op: str, call: SpikeConv2dCall) -> Tensor:
    """Compute the convolution by a kernel, PyTorch or the reference."""
    kernels = backend.library(op, call.x)
    nothing = call.x.shape[1] == 0  # PyTorch's results have no channels then
    if nothing or (kernels is None and not torch.compiler.is_exporting()):
        return reference.equation(call)  # type: ignore[no-any-return]
    # A program that is exported without the kernels has one product, not one for each weight.
    x, weight, bias = call.x, call.weight, call.bias
    is_int8 = x.dtype == torch.int8
    if (
        kernels is not torch.ops.snnfast
        or not x.is_cpu
        or (not is_int8 and x.dtype.itemsize < 4)
        or METHODS[call.method] == "dense"
        or (not is_int8 and not has_values(x))
        or (not is_int8 and torch.is_autocast_enabled("cpu"))
    ):
        stride, padding = (call.stride_h, call.stride_w), (call.padding_h, call.padding_w)
        return exactly(F.conv2d, x, weight, bias, stride, padding)
    call = _without_padding_alone(call)
    if METHODS[call.method] == "auto" and not is_int8 and _few_pixels(call):
        return _product(call)
    if METHODS[call.method] == "auto" and not is_int8 and not traced():
        fit(math.prod(_size(call)) * weight.numel())
    y, *_ = _RECORD.run(kernels, flatten(call), recorded=traced())
    return y  # type: ignore[no-any-return]


def _few_pixels(call: SpikeConv2dCall) -> bool:
    """Return whether the convolution is fastest as a matrix product with the weights in place.

    PyTorch's convolution and the event kernels copy the weights, and so do their gradients.
    """
    x, weight = call.x, call.weight
    large = weight.numel() >= max(MANY_WEIGHTS, LARGE_WEIGHTS * x.numel())
    return large and 0 < math.prod(_size(call)) <= FEW_PIXELS


def _product(call: SpikeConv2dCall) -> Tensor:
    x, weight, bias = call.x, call.weight, call.bias
    n, rows, columns = _size(call)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, call.padding_w, call.padding_w, call.padding_h, call.padding_h))
    # F.unfold and its gradient take three times as long.
    taps = [
        padded[:, r : r + call.stride_h * rows : call.stride_h, s : s + call.stride_w * columns : call.stride_w]
        for r in range(weight.shape[2])
        for s in range(weight.shape[3])
    ]
    seen = torch.stack(taps, -1).flatten(0, 2).flatten(1)
    y = (weight.flatten(1) @ seen.T).view(len(weight), n, rows, columns).transpose(0, 1)
    y = y if bias is None else y + bias[:, None, None]
    return y.contiguous(memory_format=torch.channels_last)


def _size(call: SpikeConv2dCall) -> tuple[int, int, int]:
    """Return the number of images, and of rows and columns of the results."""
    x, weight = call.x, call.weight
    return (
        len(x),
        (x.shape[2] + 2 * call.padding_h - weight.shape[2]) // call.stride_h + 1,
        (x.shape[3] + 2 * call.padding_w - weight.shape[3]) // call.stride_w + 1,
    )


def _without_padding_alone(call: SpikeConv2dCall) -> SpikeConv2dCall:
    """Remove the rows and columns of the kernel that meet nothing but padding.

    For images of one pixel, as in the last layers of a ResNet for small images, a kernel of 3 x 3 becomes one of 1 x 1.
    """
    height, width = call.x.shape[2:]
    h, w = call.weight.shape[2:]
    if height >= h and width >= w:
        return call
    rows = _taps(height, h, call.stride_h, call.padding_h)
    columns = _taps(width, w, call.stride_w, call.padding_w)
    if not rows or not columns or (len(rows), len(columns)) == (h, w):
        return call
    # one copy, and one of its gradient
    cut = (-columns.start, columns.stop - w, -rows.start, rows.stop - h)
    weight = F.pad(call.weight, cut)
    padding_h, padding_w = call.padding_h - rows.start, call.padding_w - columns.start
    return call._replace(weight=weight, padding_h=padding_h, padding_w=padding_w)


def _taps(size: int, kernel: int, stride: int, padding: int) -> range:
    """Return the taps of a kernel that meet the image; all taps if fewer would change the number of results."""
    results = (size + 2 * padding - kernel) // stride + 1
    met = [k for k in range(kernel) if any(0 <= y * stride - padding + k < size for y in range(results))]
    taps = range(met[0], met[-1] + 1) if met else range(0)
    same = len(taps) and (size + 2 * (padding - taps.start) - len(taps)) // stride + 1 == results
    return taps if same else range(kernel)


# ---- gradients


def _save(flat: Sequence[Any], results: Sequence[Tensor], wanted: Sequence[bool] | None) -> list[Any]:
    """Return the first arguments of the backward operator, without memory for ``x`` where the bits suffice.

    The bits are None where the gradient of the weights is not summed by events.
    """
    x, weight, _, *more = flat
    bits: Tensor | None
    _, bits, found = results
    if wanted is not None:
        _, weight_wanted, *_ = wanted
        _, others, by_events = found.tolist()
        if not (weight_wanted and (others or not by_events)):
            x = x.new_empty(1).expand(x.shape)
        bits = bits if by_events else None
    return [x, weight, None, *more, bits, found]


def _derivative(
    kernel: Callable[..., Any], saved: Sequence[Any], grads: Sequence[Tensor], wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of images, weights and bias from that of ``y``."""
    *flat, bits, _ = saved
    call, (grad,), (x_wanted, weight_wanted, bias_wanted) = SpikeConv2dCall(*flat), grads, wanted
    if call.method >= TURNED:  # the gradient of an input
        raise refusal("spike_conv2d")
    x, weight = call.x, call.weight
    stride, padding = [call.stride_h, call.stride_w], [call.padding_h, call.padding_w]
    grad_x = grad_weight = None
    if weight_wanted and bits is not None:
        grad_weight = kernel(*saved, grad)
    if x.shape[2:] == weight.shape[2:] and padding == [0, 0]:
        # One output pixel: a matrix product, a third of the time of PyTorch's convolution.
        rows = grad.flatten(1)
        if x_wanted:
            grad_x = (rows @ weight.flatten(1)).view(x.shape).contiguous(memory_format=torch.channels_last)
        if weight_wanted and grad_weight is None:
            grad_weight = (rows.T @ x.flatten(1)).view(weight.shape)
    elif x_wanted and stride == [1, 1]:
        grad_x = _grad_x(call, grad)
    # Asked for the bias, convolution_backward computes the gradient of the weight as well.
    grad_bias = grad.sum((0, 2, 3)) if bias_wanted else None
    dense = [x_wanted and grad_x is None, weight_wanted and grad_weight is None, False]
    if any(dense):
        # Without the gradient of the weights only its sizes are read: it has no strides, and would be copied with grad.
        layout = layout_for(weight, x)
        x = laid_out(x, layout) if dense[1] else torch.empty_like(x, memory_format=layout)
        dense_x, dense_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, dense
        )
        grad_x = dense_x if grad_x is None else grad_x
        grad_weight = dense_weight if grad_weight is None else grad_weight
    return grad_x, grad_weight, grad_bias


def _grad_x(call: SpikeConv2dCall, grad: Tensor) -> Tensor | None:
    """Return the gradient of images as a convolution of ``grad``; None if not supported.

    It is by events if ``grad`` is sparse, else by Winograd if this pays and the method is "auto", else PyTorch's.
    """
    h, w = call.weight.shape[2:]
    channels, rows, columns = grad.shape[1:]
    if channels > 2**20 or channels * (rows + 2 * h) * (columns + 2 * w) >= 2**31:
        return None  # the kernel's keys are 32 bits wide
    # It is sparse behind max pooling, and with surrogates of bounded support.
    rows, columns = h - 1 - call.padding_h, w - 1 - call.padding_w
    method = TURNED if METHODS[call.method] == "auto" else TURNED_DIRECT
    turned = call._replace(x=grad, padding_h=rows, padding_w=columns, method=method)
    return torch.ops.snnfast.spike_conv2d_forward(*flatten(turned))[0]  # type: ignore[no-any-return]


def layout_for(weight: Tensor, x: Tensor) -> torch.memory_format:
    """Return the layout of ``x`` in which PyTorch's convolution is fastest on the CPU.

    Channels-last it copies the weights, which costs more than the product where they are much larger than ``x``.
    """
    large = weight.numel() > LARGE_WEIGHTS * x.numel()
    return torch.contiguous_format if large else torch.channels_last


def laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    """Return images in one of two layouts, with strides that tell it even for images of one pixel."""
    if layout is torch.channels_last:
        return x.contiguous(memory_format=layout)
    return x.flatten(1).view(x.shape)


def _shapes(call: SpikeConv2dCall) -> tuple[Tensor, Tensor, Tensor]:
    x, weight = call.x, call.weight
    size = (*_size(call), weight.shape[1] if call.method >= TURNED else len(weight))
    words = (math.prod(x.shape[1:]) + 63) // 64
    return (
        x.new_empty(size, dtype=result_dtype(x.dtype)).permute(0, 3, 1, 2),
        x.new_empty((len(x), words), dtype=torch.int64),
        x.new_empty((3,), dtype=torch.int64),
    )


_RECORD = GradientRecord(
    reference,
    _shapes,
    _save,
    _derivative,
    tensors=(0, 1, 2),
    backward_shapes=lambda call: call.weight.new_empty(call.weight.shape),
    cpu_only=True,
)
register = _RECORD.register
