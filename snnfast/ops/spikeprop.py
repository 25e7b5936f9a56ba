"""Dispatch of :func:`snnfast.ops.spikeprop` to its kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.call import extended, flatten, positions, public_op
from snnfast.reference.spikeprop import (
    SpikePropCall,
    look_at_silence,
    look_at_values,
    needs_spikes,
    result,
    result_of,
    validates,
)
from snnfast.reference.spikeprop import spikeprop as reference

from .autograd import below_autograd, traced
from .spike_times import spike_times_record

# Bits of the status that the kernels return; csrc/core/spikeprop.h.
_BAD, _FIRED = 15, 16
_PLACES = positions(SpikePropCall)
# Positions of t_in, w and delays among the plain arguments.
_STRIDED = (_PLACES["t_in"], _PLACES["w"], _PLACES["delays"])
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
    t_out, u_max, slope, _, status = _RECORD.run(kernels, _contiguous(call), recorded=traced())
    if validates(call):
        _report(call, int(status), t_out, needs_spikes(call))
    if call.return_slope:
        slope = torch.where(t_out.detach() < math.inf, slope.detach(), math.inf)
    return result(call, t_out, u_max, slope)


def _contiguous(call: SpikePropCall) -> list[Any]:
    """Return the plain arguments of a call, with contiguous tensors."""
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
    if validates(call):
        _report(call, int(status), t_out, True)

    def pull(grad: Tensor, t_in_wanted: bool) -> tuple[Tensor | None, Tensor]:
        more = (t_out, slope, tape, grad.contiguous(), None, t_in_wanted, True, False, False)
        grads = below_autograd(kernels.spikeprop_backward, *flat, *more)
        return grads[0] if t_in_wanted else None, grads[1]

    return t_out, pull


def _shapes(call: SpikePropCall) -> tuple[Tensor, ...]:
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


def _backward_shapes(call: Any) -> tuple[Tensor, ...]:
    shapes = (call.t_in.shape, call.w.shape, call.delays.shape, ())
    return tuple(call.w.new_empty(shape if getattr(call, wanted) else (0,)) for shape, wanted in zip(shapes, _WANTED))


_RECORD = spike_times_record(
    reference,
    _shapes,
    tensors=(*_STRIDED, _PLACES["tau"] + 1),
    saved=(0, 2, 3),
    returned=5,
    backward_call=BackwardSpikePropCall,
    backward_shapes=_backward_shapes,
)
register = _RECORD.register
