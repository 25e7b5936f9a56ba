"""Dispatch of :func:`snnfast.ops.spike_linear` to its kernels: autograd, fakes and vmap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import backend
from snnfast.reference.call import extended, flatten, public_op, unflatten
from snnfast.reference.spike_linear import SpikeLinearCall, result_dtype
from snnfast.reference.spike_linear import spike_linear as reference

from .autograd import backward_pass, below_autograd, has_values, no_double_backward, refuse_transforms, wants_gradient
from .layout import one_by_one

_WANTED = ("x_wanted", "weight_wanted", "bias_wanted")
BackwardSpikeLinearCall = extended(
    SpikeLinearCall,
    "BackwardSpikeLinearCall",
    {"bits": Tensor, "found": Tensor, "grad_y": Tensor, **dict.fromkeys(_WANTED, bool)},
)
# Index in the kernel's `found` of the number of elements that are neither 0 nor 1; csrc/ops/spike_linear.cpp.
_OTHERS = 1


@public_op(reference)
def spike_linear(op: str, call: SpikeLinearCall) -> Tensor:
    """Compute the product by a kernel, PyTorch or the reference."""
    kernels = backend.library(op, call.x)
    x, weight, bias, method = call
    if kernels is None and not torch.compiler.is_exporting():
        return reference.equation(call)  # type: ignore[no-any-return]
    # A program that is exported without the kernels has one product, not one for each input.
    if kernels is not torch.ops.snnfast or not x.is_cpu:
        return exactly(F.linear, x, weight, bias)
    tensors = (x, weight, bias)
    refuse_transforms(op, tensors)
    if not wants_gradient(tensors):
        y, *_ = below_autograd(kernels.spike_linear_forward, *flatten(call))
    elif has_values(x):
        y = _Product.apply(*tensors, method)  # type: ignore[no-untyped-call]
    else:
        y, *_ = kernels.spike_linear_forward(*flatten(call))
    return y


def exactly(product: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *more: Any) -> Tensor:
    """Compute a product by PyTorch; for int8 in float64, which represents the sums exactly."""
    if weight.dtype != torch.int8:
        return product(x.to(weight.dtype), weight, bias, *more)
    return product(x.double(), weight.double(), None if bias is None else bias.double(), *more).int()


# ---- autograd


class _Product(torch.autograd.Function):
    # The forward(ctx, ...) form is faster than autograd registered with the kernel (below), and can look at values.
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, method: int) -> Tensor:
        y, bits, found = below_autograd(torch.ops.snnfast.spike_linear_forward, x, weight, bias, method)
        _, weight_wanted, *_ = ctx.needs_input_grad
        if not (weight_wanted and found[_OTHERS]):
            x = x.new_empty(0)  # the bits are all that the backward pass reads
        _save(ctx, SpikeLinearCall(x, weight, bias, method), bits, found)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        return _gradients(ctx, grad)


def _save(ctx: Any, call: SpikeLinearCall, bits: Tensor, found: Tensor) -> None:
    ctx.method = call.method
    ctx.save_for_backward(call.x, call.weight, call.bias, bits, found)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None) -> Sequence[Tensor | None]:
    """Gradients of the plain arguments from that of ``y``."""
    if grad is None:
        return (None,) * 4
    *wanted, _ = ctx.needs_input_grad
    x, weight, bias, bits, found = ctx.saved_tensors
    call = SpikeLinearCall(x, weight, bias, ctx.method)
    kernel = torch.ops.snnfast.spike_linear_backward
    arguments = (*flatten(call), bits, found, grad, *wanted)
    grads = backward_pass("spike_linear", kernel, *arguments)
    return *(g if is_wanted else None for g, is_wanted in zip(grads, wanted)), None


# ---- registration with PyTorch


def register(namespace: str) -> None:
    """Make the kernels traceable without data, differentiable, and usable under ``torch.vmap``."""
    if namespace != "snnfast":
        return  # only the CPU has these kernels
    kernels = torch.ops.snnfast
    forward, backward = "snnfast::spike_linear_forward", "snnfast::spike_linear_backward"

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(SpikeLinearCall, flat)
        before, words = call.x.shape[:-1], (call.x.shape[-1] + 63) // 64
        return (
            call.weight.new_empty((*before, call.weight.shape[0]), dtype=result_dtype(call.weight.dtype)),
            call.x.new_empty((math.prod(before), words), dtype=torch.int64),
            call.x.new_empty((3,), dtype=torch.int64),
        )

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(BackwardSpikeLinearCall, flat)
        weight, before = call.weight, call.grad_y.shape[:-1]
        shapes = ((*before, weight.shape[1]), weight.shape, weight.shape[:1])
        return tuple(
            weight.new_empty(shape if getattr(call, wanted) else (0,)) for shape, wanted in zip(shapes, _WANTED)
        )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, bits, found = output
        _save(ctx, unflatten(SpikeLinearCall, inputs), bits, found)
        ctx.mark_non_differentiable(bits, found)

    torch.library.register_autograd(forward, lambda ctx, grad, *_: _gradients(ctx, grad), setup_context=setup_context)

    torch.library.register_autograd(backward, no_double_backward("spike_linear"))
    for kernel, name in ((kernels.spike_linear_forward, forward), (kernels.spike_linear_backward, backward)):
        # One call per sample, since the share of spikes selects the algorithm.
        torch.library.register_vmap(name, one_by_one(kernel))
