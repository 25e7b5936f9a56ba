"""How a call of :func:`snnfast.ops.spikeprop` reaches its kernels: autograd, fakes and vmap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.call import extended, flatten, positions, public_op, unflatten
from snnfast.reference.spikeprop import (
    SpikePropCall,
    look_at_silence,
    look_at_values,
    looks,
    needs_spikes,
    result,
    result_of,
)
from snnfast.reference.spikeprop import spikeprop as reference

from .autograd import backward_pass, below_autograd, no_double_backward, refuse_transforms, traced, wants_gradient
from .layout import one_by_one

# Bits of what the kernels find in the values; csrc/core/spikeprop.h.
_BAD, _FIRED = 15, 16
_AT = positions(SpikePropCall)
# Where t_in, w, delays and a tau tensor stand among the plain arguments.
_STRIDED = (_AT["t_in"], _AT["w"], _AT["delays"])
_TENSORS = (*_STRIDED, _AT["tau"] + 1)
_WANTED = ("t_in_wanted", "w_wanted", "delays_wanted", "tau_wanted")
BackwardSpikePropCall = extended(
    SpikePropCall,
    "BackwardSpikePropCall",
    {
        **{"t_out": Tensor, "slope": Tensor, "tape": Tensor},
        **{"grad_t": Tensor | None, "grad_u": Tensor | None},
        **dict.fromkeys(_WANTED, bool),
    },
)

Pull = Callable[[Tensor, bool], tuple[Tensor | None, Tensor]]


@public_op(reference)
def spikeprop(op: str, call: SpikePropCall) -> Any:
    """Compute the spike times by a kernel or the reference."""
    kernels = backend.library(op, call.t_in)
    if kernels is None:
        return result_of(call, reference.equation(call))
    inputs = (call.t_in, call.w, call.delays, call.tau)
    refuse_transforms(op, inputs)
    flat = _contiguous(call)
    if not wants_gradient(inputs):
        t_out, u_max, slope, _, status = below_autograd(kernels.spikeprop_forward, *flat)
    elif traced():
        t_out, u_max, slope, _, status = kernels.spikeprop_forward(*flat)
    else:
        tensors = [flat[k] for k in _TENSORS]
        t_out, u_max, slope, status = _FirstSpike.apply(kernels, flat, *tensors)  # type: ignore[no-untyped-call]
    if looks(call):
        _report(call, int(status), t_out, needs_spikes(call))
    if call.return_slope:
        slope = torch.where(t_out.detach() < math.inf, slope.detach(), math.inf)
    return result(call, t_out, u_max, slope)


def _contiguous(call: SpikePropCall) -> list[Any]:
    """The call in plain arguments."""
    flat = flatten(call)
    for k in _STRIDED:
        flat[k] = flat[k].contiguous()
    return flat


def _report(call: SpikePropCall, found: int, t_out: Tensor, learns: bool) -> None:
    if found & _BAD:
        look_at_values(call)
    if not found & _FIRED and t_out.numel():
        look_at_silence(call, learns)


def untracked(t_in: Tensor, w: Tensor, delays: Tensor, **constants: Any) -> tuple[Tensor, Pull]:
    """:func:`snnfast.ops.spikeprop` without autograd, which takes longer than the kernels do for a single sample.

    Returns:
        ``t_out``, and a function that takes its gradient, and whether that of ``t_in`` is wanted, and returns those of
        ``t_in`` and ``w``.
    """
    kernels = backend.library("spikeprop", t_in)
    if kernels is None:
        inputs = (t_in.detach().requires_grad_(), w.detach().requires_grad_())
        with torch.enable_grad():
            t_out: Any = reference(*inputs, delays.detach(), **constants)
        return t_out.detach(), lambda grad, _: torch.autograd.grad(t_out, inputs, grad)  # type: ignore[return-value]
    tau = constants.pop("tau")
    call = reference.check(
        t_in.detach(), w.detach(), delays.detach(), tau=tau.detach() if isinstance(tau, Tensor) else tau, **constants
    )
    flat = _contiguous(call)
    t_out, _, slope, tape, status = below_autograd(kernels.spikeprop_forward, *flat)
    if looks(call):
        _report(call, int(status), t_out, True)

    def pull(grad: Tensor, t_in_wanted: bool) -> tuple[Tensor | None, Tensor]:
        more = (t_out, slope, tape, grad.contiguous(), None, t_in_wanted, True, False, False)
        grads = below_autograd(kernels.spikeprop_backward, *flat, *more)
        return grads[0] if t_in_wanted else None, grads[1]

    return t_out, pull


# ---- autograd


class _FirstSpike(torch.autograd.Function):
    # The forward(ctx, ...) form is faster than autograd registered with the kernel (below), and so are few arguments.
    @staticmethod
    def forward(ctx: Any, kernels: Any, flat: Sequence[Any], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        t_out, u_max, slope, tape, status = below_autograd(kernels.spikeprop_forward, *flat)
        _save(ctx, kernels, flat, t_out, slope, tape)
        ctx.mark_non_differentiable(slope, status)
        return t_out, u_max, slope, status

    @staticmethod
    def backward(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, *_: Any) -> Any:
        _, _, *wanted = ctx.needs_input_grad
        return None, None, *_gradients(ctx, wanted, grad_t, grad_u)


def _save(ctx: Any, kernels: Any, flat: Sequence[Any], *found: Tensor) -> None:
    ctx.kernels = kernels
    ctx.plain = [None if isinstance(a, Tensor) else a for a in flat]
    ctx.save_for_backward(*(flat[k] for k in _TENSORS), *found)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, wanted: Sequence[bool], grad_t: Tensor | None, grad_u: Tensor | None) -> list[Tensor | None]:
    """Gradients of the tensors that are ``wanted`` from those of the times and the largest potentials."""
    *tensors, t_out, slope, tape = ctx.saved_tensors
    flat = list(ctx.plain)
    for k, value in zip(_TENSORS, tensors):
        flat[k] = value
    given = [g if g is None else g.contiguous() for g in (grad_t, grad_u)]
    arguments = (*flat, t_out, slope, tape, *given, *wanted)
    kernel = ctx.kernels.spikeprop_backward
    grads = backward_pass("spikeprop", kernel, *arguments)
    return [grad if is_wanted else None for grad, is_wanted in zip(grads, wanted)]


# ---- what PyTorch knows of the kernels


def register(namespace: str) -> None:
    """Makes the kernels in ``namespace`` traceable without data, differentiable, and usable under ``torch.vmap``."""
    kernels = getattr(torch.ops, namespace)
    forward, backward = f"{namespace}::spikeprop_forward", f"{namespace}::spikeprop_backward"

    @torch.library.register_fake(forward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(SpikePropCall, flat)
        w, neurons = call.w, (call.t_in.shape[0], call.w.shape[0])
        real = w.element_size() // 4
        words = neurons[0] * (w.shape[1] * w.shape[2] * (real + 1) + 2)
        words += neurons[0] * neurons[1] * (real + 1 if call.return_u_max else 1)
        return (
            w.new_empty(neurons),
            w.new_empty(neurons if call.return_u_max else (0,)),
            w.new_empty(neurons),
            w.new_empty((words,), dtype=torch.int32),
            w.new_empty((1,), dtype=torch.int32),
        )

    @torch.library.register_fake(backward)
    def _(*flat: Any) -> tuple[Tensor, ...]:
        call = unflatten(BackwardSpikePropCall, flat)
        shapes = (call.t_in.shape, call.w.shape, call.delays.shape, ())
        return tuple(
            call.w.new_empty(shape if getattr(call, wanted) else (0,)) for shape, wanted in zip(shapes, _WANTED)
        )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        t_out, _, slope, tape, status = output
        _save(ctx, kernels, inputs, t_out, slope, tape)
        ctx.mark_non_differentiable(slope, tape, status)

    def differentiate(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        result: list[Tensor | None] = [None] * len(ctx.plain)
        wanted = [ctx.needs_input_grad[k] for k in _TENSORS]
        for k, grad in zip(_TENSORS, _gradients(ctx, wanted, grad_t, grad_u)):
            result[k] = grad
        return tuple(result)

    torch.library.register_autograd(forward, differentiate, setup_context=setup_context)

    torch.library.register_autograd(backward, no_double_backward("spikeprop"))
    for name, kernel in ((forward, kernels.spikeprop_forward), (backward, kernels.spikeprop_backward)):
        # There is no batch of weights in the kernels, nor one of tapes.
        torch.library.register_vmap(name, one_by_one(_of_contiguous(kernel)))


def _of_contiguous(kernel: Any) -> Callable[..., Any]:
    return lambda *flat: kernel(*(a.contiguous() if isinstance(a, Tensor) else a for a in flat))
