"""Dispatch of :func:`snnfast.ops.batch_norm` to its kernels: autograd and fakes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snnfast import backend
from snnfast.check import state_dtype
from snnfast.reference.batch_norm import BatchNormCall
from snnfast.reference.batch_norm import batch_norm as reference
from snnfast.reference.call import extended, flatten, public_op, unflatten

from .autograd import backward_pass, below_autograd, no_double_backward, refuse_transforms, traced, wants_gradient

_WANTED = ("x_wanted", "weight_wanted", "bias_wanted")
BackwardBatchNormCall = extended(
    BatchNormCall, "BackwardBatchNormCall", {"of_batch": bool, "grad_y": Tensor, **dict.fromkeys(_WANTED, bool)}
)
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
# Channels-last formats of images and volumes. For [B, C] with fewer than _MANY values PyTorch is faster.
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
_MANY = 2**18


@public_op(reference)
def batch_norm(op: str, call: BatchNormCall) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the normalisation by a kernel, PyTorch or the reference."""
    kernels = backend.library(op, call.x)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    if kernels is not torch.ops.snnfast or not has_kernel(call.x):
        return _by_pytorch(call)
    differentiable = call.x, call.weight, call.bias
    refuse_transforms(op, differentiable)
    if not wants_gradient(differentiable):
        return below_autograd(kernels.batch_norm_forward, *flatten(call))  # type: ignore[return-value]
    return _Normalisation.apply(*call)  # type: ignore[no-untyped-call,no-any-return]


def has_kernel(x: Tensor) -> bool:
    """Return whether there is a kernel for such an input, and the backend lets it run."""
    return (
        backend.extension is not None
        and backend.forced() != "reference"
        and not traced()
        and x.is_cpu
        and x.dtype in _DTYPES
        and x.dim() in (2, *_LAYOUTS)
        and x.shape[1] > 1  # one channel is contiguous, too
        and (x.dim() > 2 or x.numel() >= _MANY)
        and x.is_contiguous(memory_format=_LAYOUTS.get(x.dim(), torch.contiguous_format))
    )


def _by_pytorch(call: BatchNormCall) -> tuple[Tensor, Tensor, Tensor]:
    x, *parameters, eps = call
    if x.is_cpu:  # PyTorch sums channels-last images less precisely
        x = x.contiguous()
    state = state_dtype(x.dtype)
    weight, bias, mean, var = (None if p is None else p.to(state) for p in parameters)
    if mean is not None and var is not None:
        y = functional.batch_norm(x, mean, var, weight, bias, eps=eps)
        return y, mean.double(), var.double()
    # With a momentum of 1 running statistics become those of the batch.
    mean, var = (x.new_zeros(x.shape[1], dtype=state) for _ in range(2))
    y = functional.batch_norm(x, mean, var, weight, bias, True, 1.0, eps)
    n = x.numel() // x.shape[1]
    return y, mean.double(), var.double() * ((n - 1) / n)


# ---- autograd


class _Normalisation(torch.autograd.Function):
    # The forward(ctx, ...) form is faster than autograd registered with the kernel (below).
    @staticmethod
    def forward(ctx: Any, *flat: Any) -> Any:
        outputs = below_autograd(torch.ops.snnfast.batch_norm_forward, *flat)
        _save(ctx, flat, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> Any:
        return _gradients(ctx, grad)


def _save(ctx: Any, flat: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
    x, weight, bias, mean, _, ctx.eps = flat
    _, *statistics = outputs
    ctx.of_batch = mean is None
    ctx.save_for_backward(x, weight, bias, *statistics)
    ctx.mark_non_differentiable(*statistics)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the plain arguments from that of ``y``."""
    nothing = (None,) * 3
    if grad is None:
        return *nothing, *nothing
    *wanted, _, _, _ = ctx.needs_input_grad
    kernel = torch.ops.snnfast.batch_norm_backward
    arguments = (*ctx.saved_tensors, ctx.eps, ctx.of_batch, grad, *wanted)
    grads = backward_pass("batch_norm", kernel, *arguments)
    return *(g if is_wanted else None for g, is_wanted in zip(grads, wanted)), *nothing


# ---- registration with PyTorch


def register(namespace: str) -> None:
    """Make the kernels traceable without data, and differentiable."""
    if namespace != "snnfast":
        return  # only the CPU has these kernels
    forward, backward = "snnfast::batch_norm_forward", "snnfast::batch_norm_backward"

    def like(x: Tensor) -> Tensor:
        return torch.empty_like(x.movedim(1, -1), memory_format=torch.contiguous_format).movedim(-1, 1)

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        x = unflatten(BatchNormCall, flat).x
        return like(x), *(x.new_empty(x.shape[1], dtype=torch.float64) for _ in range(2))

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(BackwardBatchNormCall, flat)
        x = call.x
        grads = (x.new_empty(x.shape[1], dtype=(x if p is None else p).dtype) for p in (call.weight, call.bias))
        wanted = (getattr(call, name) for name in _WANTED)
        return tuple(g if w else x.new_empty(0) for g, w in zip((like(x), *grads), wanted))

    torch.library.register_autograd(
        forward, lambda ctx, grad, *_: _gradients(ctx, grad), setup_context=_save_registered
    )
    torch.library.register_autograd(backward, no_double_backward("batch_norm"))


def _save_registered(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _save(ctx, inputs, output)
