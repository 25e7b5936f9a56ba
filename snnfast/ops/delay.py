"""Dispatch of :func:`snnfast.ops.delay` to its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from snnfast import backend
from snnfast.check import state_dtype
from snnfast.reference.call import extended, flatten, positions, public_op, unflatten
from snnfast.reference.delay import DelayCall
from snnfast.reference.delay import delay as reference

from .autograd import traced
from .layout import batched, dense_order, inverse, parameter_run, permute_neurons
from .record import GradientRecord

_PLACES = positions(DelayCall)
# Positions of x, a d tensor and past among the plain arguments.
_D = _PLACES["d"] + 1
_TENSORS = (_PLACES["x"], _D, _PLACES["past"])
BackwardDelayCall = extended(
    DelayCall, "BackwardDelayCall", {"grad_y": Tensor, "x_needed": bool, "d_needed": bool, "past_needed": bool}
)


@public_op(reference)
def delay(op: str, call: DelayCall) -> Tensor:
    """Shift the sequence."""
    kernels = backend.library(op, call.x)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    order = dense_order(call.x)
    if order is not None:
        d: Any = permute_neurons(call.d, order)
        past = None if call.past is None else call.past.permute(order)
        call = call._replace(x=call.x.permute(order), d=d, past=past)
    if isinstance(call.d, Tensor):
        call = call._replace(d=parameter_run(call.d, call.x.shape[1:]))
    y: Any = _RECORD.run(kernels, flatten(call), recorded=traced())
    return y if order is None else y.permute(inverse(order))  # type: ignore[no-any-return]


def _shapes(call: DelayCall) -> Tensor:
    return call.x.new_empty(call.x.shape)


def _backward_shapes(call: Any) -> tuple[Tensor, ...]:
    x, dtype = call.x, state_dtype(call.x.dtype)
    nothing = x.new_empty((0,), dtype=dtype)
    return (
        x.new_empty(x.shape) if call.x_needed else nothing,
        x.new_empty(x.shape[1:], dtype=dtype) if call.d_needed else nothing.clone(),
        x.new_empty(call.past.shape) if call.past_needed else nothing.clone(),
    )


def _derivative(
    kernel: Callable[..., Any], saved: Sequence[Any], grads: Sequence[Tensor], wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x, grad_d, grad_past = kernel(*saved, *grads, *wanted)
    _, d_wanted, _ = wanted
    return grad_x, grad_d.sum_to_size(saved[_D].shape) if d_wanted else grad_d, grad_past


def _vmap(kernel: Any) -> Callable[..., Any]:
    """Return the vmap rule of an operator: one call, in which the batch is the first dimension of the neurons."""
    names = [argument.name for argument in kernel.default._schema.arguments]
    sequences = {names.index(name): 1 for name in ("x", "past", "grad_y") if name in names}

    def mapped(info: Any, in_dims: tuple[int | None, ...], *flat: Any) -> Any:
        found = kernel(*batched(flat, in_dims, _PLACES["x"], sequences, info.batch_size))
        if isinstance(found, Tensor):
            return found, 1
        call = unflatten(BackwardDelayCall, flat)
        dims = zip((1, 0, 1), (call.x_needed, call.d_needed, call.past_needed))
        return found, tuple(dim if needed else None for dim, needed in dims)

    return mapped


_RECORD = GradientRecord(
    reference,
    _shapes,
    lambda flat, results, wanted: [*flat],
    _derivative,
    tensors=_TENSORS,
    backward_call=BackwardDelayCall,
    backward_shapes=_backward_shapes,
    vmap=_vmap,
)
register = _RECORD.register
