"""Dispatch of :func:`snnfast.ops.diehl_cook_conductance_` to its kernel."""

from __future__ import annotations

from snnfast.reference.call import public_op
from snnfast.reference.diehl_cook_conductance import DiehlCookConductanceCall, DiehlCookConductanceResult
from snnfast.reference.diehl_cook_conductance import diehl_cook_conductance_ as reference

from .diehl_cook import present, register_network


@public_op(reference)
def diehl_cook_conductance_(op: str, call: DiehlCookConductanceCall) -> DiehlCookConductanceResult:
    """Run the presentations; weights and thresholds change in place."""
    return call.result_of(present(op, call, reference.equation))


def register(namespace: str) -> None:
    """Make the kernel traceable without data."""
    if namespace != "snnfast":
        return  # only the CPU has this kernel
    register_network(namespace, "diehl_cook_conductance_", DiehlCookConductanceCall)
