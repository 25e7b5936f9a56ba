"""Dispatch of :func:`snnfast.ops.delay` to its kernels: layout, autograd, fakes and vmap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.check import state_dtype
from snnfast.reference.call import extended, flatten, positions, public_op, unflatten
from snnfast.reference.delay import DelayCall
from snnfast.reference.delay import delay as reference

from .autograd import backward_pass, below_autograd, no_double_backward, refuse_transforms, traced, wants_gradient
from .layout import batched, dense_order, inverse, parameter_run, permute_neurons

_AT = positions(DelayCall)
# Positions of x, a d tensor and past among the plain arguments.
_TENSORS = (_AT["x"], _AT["d"] + 1, _AT["past"])
BackwardDelayCall = extended(
    DelayCall, "BackwardDelayCall", {"grad_y": Tensor, "x_needed": bool, "d_needed": bool, "past_needed": bool}
)


@public_op(reference)
def delay(op: str, call: DelayCall) -> Tensor:
    """Shift the sequence."""
    kernels = backend.library(op, call.x)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    refuse_transforms(op, call)
    order = dense_order(call.x)
    if order is not None:
        d: Any = permute_neurons(call.d, order)
        past = None if call.past is None else call.past.permute(order)
        call = call._replace(x=call.x.permute(order), d=d, past=past)
    if isinstance(call.d, Tensor):
        call = call._replace(d=parameter_run(call.d, call.x.shape[1:]))
    flat = flatten(call)
    if not wants_gradient(flat):
        y: Any = below_autograd(kernels.delay_forward, *flat)
    elif traced():
        y = kernels.delay_forward(*flat)
    else:
        y = _Delay.apply(kernels, *flat)  # type: ignore[no-untyped-call]
    return y if order is None else y.permute(inverse(order))  # type: ignore[no-any-return]


# ---- autograd


class _Delay(torch.autograd.Function):
    # The forward(ctx, ...) form is faster than autograd registered with the kernel (below).
    @staticmethod
    def forward(ctx: Any, kernels: Any, *flat: Any) -> Any:
        _save(ctx, kernels, flat)
        return below_autograd(kernels.delay_forward, *flat)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        _, *needed = ctx.needs_input_grad
        return None, *_gradients(ctx, needed, grads)


def _save(ctx: Any, kernels: Any, flat: Sequence[Any]) -> None:
    ctx.kernels = kernels
    ctx.plain = [None if isinstance(a, Tensor) else a for a in flat]
    ctx.save_for_backward(*(flat[k] for k in _TENSORS))


def _gradients(ctx: Any, needed: Sequence[bool], grads: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradients of the plain arguments from that of the shifted sequence."""
    flat = list(ctx.plain)
    for k, value in zip(_TENSORS, ctx.saved_tensors):
        flat[k] = value
    wanted = [needed[k] for k in _TENSORS]
    kernel, arguments = ctx.kernels.delay_backward, (*flat, *grads, *wanted)
    found = backward_pass("delay", kernel, *arguments)
    result: list[Tensor | None] = [None] * len(flat)
    for k, grad, is_wanted in zip(_TENSORS, found, wanted):
        if is_wanted:
            result[k] = grad.sum_to_size(flat[k].shape)
    return result


# ---- registration with PyTorch


def register(namespace: str) -> None:
    """Make the kernels in ``namespace`` traceable without data, differentiable, and usable under ``torch.vmap``."""
    kernels = getattr(torch.ops, namespace)
    forward, backward = f"{namespace}::delay_forward", f"{namespace}::delay_backward"

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> Tensor:
        x = unflatten(DelayCall, flat).x
        return x.new_empty(x.shape)

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(BackwardDelayCall, flat)
        x, dtype = call.x, state_dtype(call.x.dtype)
        nothing = x.new_empty((0,), dtype=dtype)
        return (
            x.new_empty(x.shape) if call.x_needed else nothing,
            x.new_empty(x.shape[1:], dtype=dtype) if call.d_needed else nothing.clone(),
            x.new_empty(call.past.shape) if call.past_needed else nothing.clone(),
        )

    torch.library.register_autograd(
        forward,
        lambda ctx, *grads: tuple(_gradients(ctx, ctx.needs_input_grad, grads)),
        setup_context=lambda ctx, inputs, output: _save(ctx, kernels, inputs),
    )

    torch.library.register_autograd(backward, no_double_backward("delay"))
    sequences = dict.fromkeys((_AT["x"], _AT["past"]), 1)

    @torch.library.register_vmap(forward)
    def _(info: Any, in_dims: tuple[int | None, ...], *flat: Any) -> Any:
        return kernels.delay_forward(*batched(flat, in_dims, _AT["x"], sequences, info.batch_size)), 1

    @torch.library.register_vmap(backward)
    def _(info: Any, in_dims: tuple[int | None, ...], *flat: Any) -> Any:
        call = unflatten(BackwardDelayCall, flat)
        batch_at = sequences | {positions(BackwardDelayCall)["grad_y"]: 1}
        return kernels.delay_backward(*batched(flat, in_dims, _AT["x"], batch_at, info.batch_size)), (
            1 if call.x_needed else None,
            0 if call.d_needed else None,
            1 if call.past_needed else None,
        )
