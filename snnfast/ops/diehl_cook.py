"""Dispatch of :func:`snnfast.ops.diehl_cook_` to its kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.call import flatten, public_op, unflatten
from snnfast.reference.diehl_cook import DiehlCookCall, DiehlCookResult
from snnfast.reference.diehl_cook import diehl_cook_ as reference

from .in_place import raise_versions


@public_op(reference)
def diehl_cook_(op: str, call: DiehlCookCall) -> DiehlCookResult:
    """Run the presentations; weights and thresholds change in place."""
    return call.result_of(present(op, call, reference.equation))


def register(namespace: str) -> None:
    """Make the kernel in ``namespace`` traceable without data."""
    register_network(namespace, "diehl_cook_", DiehlCookCall)


# For both networks of Diehl and Cook.


def present(op: str, call: Any, equation: Callable[[Any], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return counts and spikes of the presentations, from the kernel or the reference."""
    kernels = backend.library(op, call.w)
    # Kernels do nothing without neurons, but the traces of the inputs still change.
    if kernels is None or call.w.shape[-2] == 0:
        return equation(call)
    outputs: tuple[Tensor, Tensor] = getattr(kernels, op)(*flatten(call))
    adapts = call.theta_plus != 0 or call.theta_decay != 1
    changed = [*([call.w] if call.learns else []), *([call.theta] if adapts else [])]
    raise_versions(*changed)
    return outputs


def register_network(namespace: str, kernel: str, call: Any) -> None:
    """Make a kernel traceable without data."""

    @torch.library.register_fake(f"{namespace}::{kernel}")
    def _(*flat: Any) -> tuple[Tensor, Tensor]:
        arguments = unflatten(call, flat)
        presentations, (*networks, neurons, _) = arguments.x.shape[0], arguments.w.shape
        shape = (*networks, presentations if arguments.return_spikes else 0, arguments.steps, neurons)
        return (
            arguments.w.new_empty((*networks, presentations, neurons), dtype=torch.int32),
            arguments.w.new_empty(shape, dtype=torch.bool),
        )
