"""How a call of :func:`snnfast.ops.eventprop` reaches its kernels: autograd, fakes and vmap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.call import extended, flatten, positions, public_op, unflatten
from snnfast.reference.eventprop import EventPropCall, result_of
from snnfast.reference.eventprop import eventprop as reference

from .autograd import backward_pass, below_autograd, no_double_backward, refuse_transforms, traced, wants_gradient
from .layout import one_by_one

_NAMES = ("arrivals", "w", "w_rec", "delays_rec")
_TENSORS = tuple(positions(EventPropCall)[name] for name in _NAMES)
_WANTED = tuple(f"{name}_wanted" for name in _NAMES)
BackwardEventPropCall = extended(
    EventPropCall,
    "BackwardEventPropCall",
    {
        **dict.fromkeys(("t_out", "slope", "peak", "source"), Tensor),
        **{"grad_t": Tensor | None, "grad_u": Tensor | None},
        **dict.fromkeys(_WANTED, bool),
    },
)


@public_op(reference)
def eventprop(op: str, call: EventPropCall) -> Any:
    """Compute the spike times by a kernel or the reference."""
    kernels = backend.library(op, call.arrivals)
    if kernels is None:
        return result_of(call, reference.equation(call))
    inputs = [getattr(call, name) for name in _NAMES]
    refuse_transforms(op, inputs)
    flat = flatten(call)
    for k in _TENSORS:
        flat[k] = flat[k] if flat[k] is None else flat[k].contiguous()
    if not wants_gradient(inputs):
        t_out, u_max, slope, *_ = below_autograd(kernels.eventprop_forward, *flat)
    elif traced():
        t_out, u_max, slope, *_ = kernels.eventprop_forward(*flat)
    else:
        tensors = [flat[k] for k in _TENSORS]
        t_out, u_max, slope = _Spikes.apply(kernels, flat, *tensors)  # type: ignore[no-untyped-call]
    if call.return_slope:
        slope = torch.where(t_out.detach() < math.inf, slope.detach(), math.inf)
    return result_of(call, (t_out, u_max, slope))


class _Spikes(torch.autograd.Function):
    # Faster than autograd registered with the kernel.
    @staticmethod
    def forward(ctx: Any, kernels: Any, flat: Sequence[Any], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        t_out, u_max, *found = below_autograd(kernels.eventprop_forward, *flat)
        _save(ctx, kernels, flat, t_out, *found)
        ctx.mark_non_differentiable(found[0])
        return t_out, u_max, found[0]

    @staticmethod
    def backward(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, _: Any) -> Any:
        _, _, *wanted = ctx.needs_input_grad
        return None, None, *_gradients(ctx, wanted, grad_t, grad_u)


def _save(ctx: Any, kernels: Any, flat: Sequence[Any], *found: Tensor) -> None:
    ctx.kernels = kernels
    ctx.plain = [None if isinstance(a, Tensor) else a for a in flat]
    ctx.save_for_backward(*(flat[k] for k in _TENSORS), *found)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, wanted: Sequence[bool], grad_t: Tensor | None, grad_u: Tensor | None) -> list[Tensor | None]:
    """Gradients of the tensors that are ``wanted`` from those of the times and the largest potentials."""
    *tensors, t_out, slope, peak, source = ctx.saved_tensors
    flat = list(ctx.plain)
    for k, value in zip(_TENSORS, tensors):
        flat[k] = value
    given = [g if g is None else g.contiguous() for g in (grad_t, grad_u)]
    kernel = ctx.kernels.eventprop_backward
    grads = backward_pass("eventprop", kernel, *flat, t_out, slope, peak, source, *given, *wanted)
    return [grad if is_wanted else None for grad, is_wanted in zip(grads, wanted)]


# ---- what PyTorch knows of the kernels


def register(namespace: str) -> None:
    """Makes the kernels in ``namespace`` traceable without data, differentiable, and usable under ``torch.vmap``."""
    kernels = getattr(torch.ops, namespace)
    forward, backward = f"{namespace}::eventprop_forward", f"{namespace}::eventprop_backward"

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(EventPropCall, flat)
        w, shape = call.w, (call.arrivals.shape[0], call.w.shape[0])
        spikes, neurons = (*shape, call.max_spikes), shape if call.return_u_max else (0,)
        t_out, u_max, slope, peak = (w.new_empty(s) for s in (spikes, neurons, spikes, neurons))
        return t_out, u_max, slope, peak, w.new_empty(neurons, dtype=torch.int32)

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(BackwardEventPropCall, flat)
        values = (getattr(call, name) for name in _NAMES)
        return tuple(
            call.w.new_empty(value.shape if value is not None and getattr(call, wanted) else (0,))
            for value, wanted in zip(values, _WANTED)
        )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        t_out, _, *found = output
        _save(ctx, kernels, inputs, t_out, *found)
        ctx.mark_non_differentiable(*found)

    def differentiate(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        result: list[Tensor | None] = [None] * len(ctx.plain)
        wanted = [ctx.needs_input_grad[k] for k in _TENSORS]
        for k, grad in zip(_TENSORS, _gradients(ctx, wanted, grad_t, grad_u)):
            result[k] = grad
        return tuple(result)

    torch.library.register_autograd(forward, differentiate, setup_context=setup_context)
    torch.library.register_autograd(backward, no_double_backward("eventprop"))
    for name, kernel in ((forward, kernels.eventprop_forward), (backward, kernels.eventprop_backward)):
        # There is no batch of weights in the kernels.
        torch.library.register_vmap(name, one_by_one(_of_contiguous(kernel)))


def _of_contiguous(kernel: Any) -> Callable[..., Any]:
    return lambda *flat: kernel(*(a.contiguous() if isinstance(a, Tensor) else a for a in flat))
