"""Dispatch of :func:`snnfast.ops.diehl_cook_` to its kernels, one for each kind of synapses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.call import flatten, public_op
from snnfast.reference.diehl_cook import DiehlCookCall, result_of
from snnfast.reference.diehl_cook import diehl_cook_ as reference
from snnfast.reference.diehl_cook_arguments import DiehlCookResult
from snnfast.reference.diehl_cook_conductance import DiehlCookConductanceCall

from .in_place import raise_versions
from .record import Record


@public_op(reference)
def diehl_cook_(op: str, call: Any) -> DiehlCookResult:
    """Run the presentations; weights and thresholds change in place."""
    operator = _RECORDS[type(call)].name
    kernels = backend.library(op if operator == op else f"{op} with conductances", call.w)
    # Kernels do nothing without neurons, but the traces of the inputs still change.
    if kernels is None or call.w.shape[-2] == 0:
        return result_of(call, reference.equation(call))
    outputs = getattr(kernels, operator)(*flatten(call))
    adapts = call.theta_plus != 0 or call.theta_decay != 1
    changed = [*([call.w] if call.learns else []), *([call.theta] if adapts else [])]
    raise_versions(*changed)
    return result_of(call, outputs)


def _shapes(call: Any) -> tuple[Tensor, Tensor]:
    presentations, (*networks, neurons, _) = call.x.shape[0], call.w.shape
    shape = (*networks, presentations if call.return_spikes else 0, call.steps, neurons)
    return (
        call.w.new_empty((*networks, presentations, neurons), dtype=torch.int32),
        call.w.new_empty(shape, dtype=torch.bool),
    )


_RECORDS = {
    DiehlCookCall: Record(reference, _shapes, call=DiehlCookCall),
    DiehlCookConductanceCall: Record(
        reference, _shapes, name="diehl_cook_conductance_", call=DiehlCookConductanceCall, cpu_only=True
    ),
}


def register(namespace: str) -> None:
    """Register the operators in ``namespace`` with PyTorch."""
    for record in _RECORDS.values():
        record.register(namespace)
