"""Dispatch of :func:`snnfast.ops.pool2d` to its kernels: autograd and fakes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snnfast import backend
from snnfast.reference.call import flatten, public_op, unflatten
from snnfast.reference.pool2d import Pool2dCall
from snnfast.reference.pool2d import pool2d as reference

from .autograd import below_autograd, no_double_backward, refuse_transforms, traced, wants_gradient

# Channels of the narrowest vector, by the dtypes that have kernels.
_CHANNELS = {torch.float32: 4, torch.float64: 2, torch.bfloat16: 4}
# Most pixels in the window of a maximum: the argmax indices are bytes.
_MOST_PIXELS = 256


@public_op(reference)
def pool2d(op: str, call: Pool2dCall) -> Tensor:
    """Compute the pooling by a kernel, PyTorch or the reference."""
    kernels = backend.library(op, call.x)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    x = call.x
    if kernels is not torch.ops.snnfast or not has_kernel(*call):
        pool = functional.avg_pool2d if call.average else functional.max_pool2d
        return pool(x, (call.kernel_h, call.kernel_w))
    refuse_transforms(op, (x,))
    if not wants_gradient((x,)):
        y, _ = below_autograd(kernels.pool2d_forward, *flatten(call))
        return y
    return _Pooling.apply(*call)  # type: ignore[no-untyped-call,no-any-return]


def has_kernel(x: Tensor, kernel_h: int, kernel_w: int, average: bool) -> bool:
    """Return whether there is a kernel for such images and windows."""
    return (
        not traced()
        and x.is_cpu
        and x.shape[1] >= _CHANNELS.get(x.dtype, math.inf)
        and (average or kernel_h * kernel_w <= _MOST_PIXELS)
        and x.is_contiguous(memory_format=torch.channels_last)
    )


# ---- autograd


class _Pooling(torch.autograd.Function):
    # The forward(ctx, ...) form is faster than autograd registered with the kernel (below).
    @staticmethod
    def forward(ctx: Any, *flat: Any) -> Any:
        y, indices = below_autograd(torch.ops.snnfast.pool2d_forward, *flat)
        _save(ctx, flat, indices)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        return _gradients(ctx, grad)


def _save(ctx: Any, flat: tuple[Any, ...], indices: Tensor) -> None:
    x, *ctx.more = flat
    ctx.shape = x.shape  # the backward pass needs no values
    ctx.save_for_backward(indices)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the plain arguments from that of ``y``."""
    nothing = (None,) * len(ctx.more)
    if grad is None:
        return None, *nothing
    (indices,) = ctx.saved_tensors
    x = grad.new_empty(1).expand(ctx.shape)
    # with create_graph=True the kernel raises, since it has no second derivative
    return torch.ops.snnfast.pool2d_backward(x, *ctx.more, indices, grad), *nothing


# ---- registration with PyTorch


def register(namespace: str) -> None:
    """Make the kernels traceable without data, and differentiable."""
    if namespace != "snnfast":
        return  # only the CPU has these kernels
    forward, backward = "snnfast::pool2d_forward", "snnfast::pool2d_backward"

    def empty(x: Tensor, rows: int, columns: int) -> Tensor:
        return x.new_empty((len(x), rows, columns, x.shape[1])).permute(0, 3, 1, 2)

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, Tensor]:
        call = unflatten(Pool2dCall, flat)
        x = call.x
        y = empty(x, x.shape[2] // call.kernel_h, x.shape[3] // call.kernel_w)
        shape = (0,) if call.average else y.permute(0, 2, 3, 1).shape
        return y, x.new_empty(shape, dtype=torch.uint8)

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> Tensor:
        x = unflatten(Pool2dCall, flat).x
        return empty(x, *x.shape[2:])

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, indices = output
        _save(ctx, inputs, indices)
        ctx.mark_non_differentiable(indices)

    torch.library.register_autograd(forward, lambda ctx, grad, _: _gradients(ctx, grad), setup_context=setup_context)

    torch.library.register_autograd(backward, no_double_backward("pool2d"))
