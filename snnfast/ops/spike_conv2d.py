"""How a call of :func:`snnfast.ops.spike_conv2d` reaches its kernels: autograd and fakes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import backend
from snnfast.calls.call import flatten, unflatten
from snnfast.calls.spike_conv2d import METHODS, SpikeConv2dCall
from snnfast.reference.spike_conv2d import spike_conv2d as reference

from .autograd import below_autograd, refuse_tangents, traced, wants_gradient


def run(op: str, call: SpikeConv2dCall) -> Tensor:
    """What the call asks for."""
    kernels = backend.library(op, call.x)
    if kernels is None and not torch.compiler.is_exporting():
        return reference.equation(call)  # type: ignore[attr-defined,no-any-return]
    # A program that is exported without the kernels has one product, not one for each weight.
    x, weight, bias, padding_h, padding_w, method = call
    if (
        kernels is not torch.ops.snnfast
        or not x.is_cpu
        or x.dtype.itemsize < 4
        or METHODS[method] == "dense"
        or traced()
        or torch.is_autocast_enabled("cpu")
    ):
        return F.conv2d(x, weight, bias, padding=(padding_h, padding_w))
    tensors = (x, weight, bias)
    refuse_tangents(op, tensors)
    if not wants_gradient(tensors):
        y, _ = below_autograd(kernels.spike_conv2d_forward, *flatten(call))
    else:
        y = _Convolution.apply(*call)  # type: ignore[no-untyped-call]
    return y


# ---- autograd


class _Convolution(torch.autograd.Function):
    # The forward(ctx, ...) form is faster than autograd registered with the kernel (below), and can look at values.
    @staticmethod
    def forward(ctx: Any, *flat: Any) -> Tensor:
        y, by_events = below_autograd(torch.ops.snnfast.spike_conv2d_forward, *flat)
        _save(ctx, flat)
        ctx.by_events = bool(by_events)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        return _gradients(ctx, grad)


def _save(ctx: Any, flat: tuple[Any, ...]) -> None:
    x, weight, bias, *ctx.more = flat
    ctx.save_for_backward(x, weight)
    ctx.bias_sizes = None if bias is None else list(bias.shape)
    ctx.by_events = True
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the plain arguments from that of ``y``."""
    nothing = (None,) * (3 + len(ctx.more))
    if grad is None:
        return nothing
    x, weight = ctx.saved_tensors
    x_wanted, weight_wanted, bias_wanted = ctx.needs_input_grad[:3]
    padding_h, padding_w, _ = ctx.more
    grad_weight = None
    if weight_wanted and ctx.by_events:
        kernel = torch.ops.snnfast.spike_conv2d_backward
        # with create_graph=True the kernel says that it has no second derivative
        arguments = (x, weight, None, *ctx.more, grad)
        grad_weight = kernel(*arguments)
    grad_x = _grad_x(x, weight, padding_h, padding_w, grad) if x_wanted else None
    dense = [x_wanted and grad_x is None, weight_wanted and not ctx.by_events, bias_wanted]
    if not any(dense):
        return grad_x, grad_weight, *nothing[2:]
    sizes, one = ctx.bias_sizes, [1, 1]
    padding = [padding_h, padding_w]
    dense_x, dense_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad, x, weight, sizes, one, padding, one, False, [0, 0], 1, dense
    )
    return (
        dense_x if grad_x is None else grad_x,
        dense_weight if grad_weight is None else grad_weight,
        grad_bias,
        *nothing[3:],
    )


def _grad_x(
    x: Tensor, weight: Tensor, padding_h: int, padding_w: int, grad: Tensor
) -> Tensor | None:
    """The gradient of ``x`` as a convolution of ``grad``, by events where few of it are not 0; None: not so."""
    h, w = weight.shape[2:]
    channels, rows, columns = grad.shape[1:]
    if channels > 2**20 or channels * (rows + 2 * h) * (columns + 2 * w) >= 2**31:
        return None  # the kernel's keys are 32 bits wide
    # Behind max pooling, and with surrogates that are 0 from some distance on, few are not 0.
    turned = weight.flip(2, 3).transpose(0, 1)
    arguments = (grad, turned, None, h - 1 - padding_h, w - 1 - padding_w, METHODS.index("auto"))
    return torch.ops.snnfast.spike_conv2d_forward(*arguments)[0]  # type: ignore[no-any-return]


# ---- what PyTorch knows of the kernels


def register(namespace: str) -> None:
    """Makes the kernels traceable without data, and differentiable."""
    if namespace != "snnfast":
        return  # they are for the CPU alone
    forward, backward = "snnfast::spike_conv2d_forward", "snnfast::spike_conv2d_backward"

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, Tensor]:
        x, weight, _, padding_h, padding_w, _ = unflatten(SpikeConv2dCall, flat)
        size = (
            len(x),
            x.shape[2] + 2 * padding_h - weight.shape[2] + 1,
            x.shape[3] + 2 * padding_w - weight.shape[3] + 1,
            len(weight),
        )
        return x.new_empty(size).permute(0, 3, 1, 2), x.new_empty((1,), dtype=torch.int64)

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> Tensor:
        weight = unflatten(SpikeConv2dCall, flat).weight
        return weight.new_empty(weight.shape)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _save(ctx, inputs)
        ctx.mark_non_differentiable(output[1])

    torch.library.register_autograd(
        forward, lambda ctx, grad, _: _gradients(ctx, grad), setup_context=setup_context
    )

    def no_second_derivative(ctx: Any, grad: Tensor) -> Any:
        raise RuntimeError(
            "spike_conv2d: a second derivative was asked for, but only first derivatives are implemented"
        )

    torch.library.register_autograd(backward, no_second_derivative)
