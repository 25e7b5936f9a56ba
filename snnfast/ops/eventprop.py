"""Dispatch of :func:`snnfast.ops.eventprop` to its kernels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.call import extended, flatten, positions, public_op
from snnfast.reference.eventprop import EventPropCall, result_of
from snnfast.reference.eventprop import eventprop as reference

from .autograd import traced
from .spike_times import spike_times_record

_NAMES = ("arrivals", "w", "w_rec", "delays_rec")
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
    flat = flatten(call)
    for k in _RECORD.tensors:
        flat[k] = flat[k] if flat[k] is None else flat[k].contiguous()
    t_out, u_max, slope, *_ = _RECORD.run(kernels, flat, recorded=traced())
    if call.return_slope:
        slope = torch.where(t_out.detach() < math.inf, slope.detach(), math.inf)
    return result_of(call, (t_out, u_max, slope))


def _shapes(call: EventPropCall) -> tuple[Tensor, ...]:
    w, shape = call.w, (call.arrivals.shape[0], call.w.shape[0])
    spikes, neurons = (*shape, call.max_spikes), shape if call.return_u_max else (0,)
    t_out, u_max, slope, peak = (w.new_empty(s) for s in (spikes, neurons, spikes, neurons))
    return t_out, u_max, slope, peak, w.new_empty(neurons, dtype=torch.int32)


def _backward_shapes(call: Any) -> tuple[Tensor, ...]:
    values = (getattr(call, name) for name in _NAMES)
    return tuple(
        call.w.new_empty(value.shape if value is not None and getattr(call, wanted) else (0,))
        for value, wanted in zip(values, _WANTED)
    )


_RECORD = spike_times_record(
    reference,
    _shapes,
    tensors=[positions(EventPropCall)[name] for name in _NAMES],
    saved=(0, 2, 3, 4),
    returned=3,
    backward_call=BackwardEventPropCall,
    backward_shapes=_backward_shapes,
)
register = _RECORD.register
