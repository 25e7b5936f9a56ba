"""Dispatch of :func:`snnfast.ops.spike_conv2d` to its kernels: autograd and fakes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import backend
from snnfast.reference.call import flatten, public_op, unflatten
from snnfast.reference.spike_conv2d import METHODS, SpikeConv2dCall
from snnfast.reference.spike_conv2d import spike_conv2d as reference
from snnfast.reference.spike_linear import result_dtype

from .autograd import below_autograd, has_values, no_double_backward, refuse_transforms, wants_gradient
from .spike_linear import exactly

# A method after those of a call: "auto", with weights [C, O, kh, kw] that the kernel reads flipped.
TURNED = len(METHODS)
LARGE_WEIGHTS = 2  # times as many as pixels; kLargeWeights in csrc/ops/spike_conv2d.cpp


@public_op(reference)
def spike_conv2d(op: str, call: SpikeConv2dCall) -> Tensor:
    """Compute the convolution by a kernel, PyTorch or the reference."""
    kernels = backend.library(op, call.x)
    if kernels is None and not torch.compiler.is_exporting():
        return reference.equation(call)  # type: ignore[no-any-return]
    # A program that is exported without the kernels has one product, not one for each weight.
    x, weight, bias = call.x, call.weight, call.bias
    whole = x.dtype == torch.int8
    if (
        kernels is not torch.ops.snnfast
        or not x.is_cpu
        or (not whole and x.dtype.itemsize < 4)
        or METHODS[call.method] == "dense"
        or (not whole and not has_values(x))
        or (not whole and torch.is_autocast_enabled("cpu"))
    ):
        stride, padding = (call.stride_h, call.stride_w), (call.padding_h, call.padding_w)
        return exactly(F.conv2d, x, weight, bias, stride, padding)
    tensors = (x, weight, bias)
    refuse_transforms(op, tensors)
    call = _without_padding_alone(call)
    if not wants_gradient(tensors):
        y, *_ = below_autograd(kernels.spike_conv2d_forward, *flatten(call))
    else:
        y = _Convolution.apply(*call)  # type: ignore[no-untyped-call]
    return y


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


# ---- autograd


class _Convolution(torch.autograd.Function):
    # The forward(ctx, ...) form is faster than autograd registered with the kernel (below), and can look at values.
    @staticmethod
    def forward(ctx: Any, *flat: Any) -> Tensor:
        y, bits, found = below_autograd(torch.ops.snnfast.spike_conv2d_forward, *flat)
        call = unflatten(SpikeConv2dCall, flat)
        _, others, by_events = found.tolist()
        _, weight_wanted, *_ = ctx.needs_input_grad
        if not (weight_wanted and (others or not by_events)):
            # The bits are all that the backward pass reads: x has its sizes, and no memory.
            call = call._replace(x=call.x.new_empty(1).expand(call.x.shape))
        _save(ctx, call, bits, found)
        ctx.by_events = bool(by_events)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        return _gradients(ctx, grad)


def _save(ctx: Any, call: SpikeConv2dCall, bits: Tensor, found: Tensor) -> None:
    ctx.save_for_backward(call.x, call.weight, bits, found)
    ctx.call = call._replace(x=None, weight=None, bias=None)  # type: ignore[arg-type]
    ctx.by_events = True
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the plain arguments from that of ``y``."""
    nothing: Any = SpikeConv2dCall(*(None,) * len(ctx.call))  # type: ignore[arg-type]
    if grad is None:
        return nothing  # type: ignore[no-any-return]
    x, weight, bits, found = ctx.saved_tensors
    x_wanted, weight_wanted, bias_wanted, *_ = ctx.needs_input_grad
    call = ctx.call._replace(x=x, weight=weight)
    stride, padding = [call.stride_h, call.stride_w], [call.padding_h, call.padding_w]
    grad_x = grad_weight = None
    if weight_wanted and ctx.by_events:
        kernel = torch.ops.snnfast.spike_conv2d_backward
        # with create_graph=True the kernel raises, since it has no second derivative
        grad_weight = kernel(*flatten(call), bits, found, grad)
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
    return nothing._replace(x=grad_x, weight=grad_weight, bias=grad_bias)  # type: ignore[no-any-return]


def _grad_x(call: SpikeConv2dCall, grad: Tensor) -> Tensor | None:
    """Return the gradient of images as a convolution of ``grad``, by events if it is sparse; None if not supported."""
    h, w = call.weight.shape[2:]
    channels, rows, columns = grad.shape[1:]
    if channels > 2**20 or channels * (rows + 2 * h) * (columns + 2 * w) >= 2**31:
        return None  # the kernel's keys are 32 bits wide
    # It is sparse behind max pooling, and with surrogates of bounded support.
    rows, columns = h - 1 - call.padding_h, w - 1 - call.padding_w
    turned = call._replace(x=grad, padding_h=rows, padding_w=columns, method=TURNED)
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


# ---- registration with PyTorch


def register(namespace: str) -> None:
    """Make the kernels traceable without data, and differentiable."""
    if namespace != "snnfast":
        return  # only the CPU has these kernels
    forward, backward = "snnfast::spike_conv2d_forward", "snnfast::spike_conv2d_backward"

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
        call = unflatten(SpikeConv2dCall, flat)
        x, weight = call.x, call.weight
        size = (
            len(x),
            (x.shape[2] + 2 * call.padding_h - weight.shape[2]) // call.stride_h + 1,
            (x.shape[3] + 2 * call.padding_w - weight.shape[3]) // call.stride_w + 1,
            weight.shape[1] if call.method == TURNED else len(weight),
        )
        words = (math.prod(x.shape[1:]) + 63) // 64
        return (
            x.new_empty(size, dtype=result_dtype(x.dtype)).permute(0, 3, 1, 2),
            x.new_empty((len(x), words), dtype=torch.int64),
            x.new_empty((3,), dtype=torch.int64),
        )

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> Tensor:
        weight = unflatten(SpikeConv2dCall, flat).weight
        return weight.new_empty(weight.shape)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, bits, found = output
        _save(ctx, unflatten(SpikeConv2dCall, inputs), bits, found)
        ctx.mark_non_differentiable(bits, found)

    refuse = no_double_backward("spike_conv2d")

    def differentiate(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        # A TURNED call is the gradient of an input, so this would be a second derivative.
        return refuse(ctx, grad) if ctx.call.method == TURNED else _gradients(ctx, grad)

    torch.library.register_autograd(forward, differentiate, setup_context=setup_context)
    torch.library.register_autograd(backward, refuse)
