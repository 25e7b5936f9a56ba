"""Kernels of users' neurons: the choices that each is compiled for, its trace and its source."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.neuron_arguments import Neuron, refractory_of, type_name
from snnfast.reference.surrogate import Surrogate

from . import emit
from .expression import NEURON, NUMBER, StepGraph
from .neurons import trace_call
from .plan import KernelPlan, make_plan
from .trace import TracedStep, TracedSurrogate
from .value import Value

__all__ = ["ALPHA", "Variant", "plan_of", "source_of", "traced", "variant_of"]

ALPHA = "surrogate_alpha"  # parameter of kernels that is no field of a call


class Variant(NamedTuple):
    """Choices that a kernel is compiled for; parameters that are numbers are its arguments.

    Kernels for the CPU have the dtype of the states, those for CUDA the dtype of the inputs.
    """

    recurrent: bool
    dtype: torch.dtype
    hard_reset: bool
    strict: bool
    detach_reset: bool
    surrogate: Any
    refractory: bool
    several: bool
    tensors: tuple[str, ...]
    target: str = "cpu"  # of snnfast.compiler.build


def variant_of(call: Any) -> Variant:
    """Return the choices of a call, for the CPU."""
    neuron, surrogate = type(call).neuron, call.surrogate
    tensors = []
    for name, value in zip(neuron.kernel_parameters, call[len(neuron.inputs) + len(neuron.states) :]):
        if type(value) is not float and isinstance(value, Tensor):
            tensors.append(name)
    return Variant(
        hasattr(call, "weight"),
        check.state_dtype(call[0].dtype),
        call.hard_reset,
        call.strict,
        call.detach_reset,
        surrogate.name if isinstance(surrogate, Surrogate) else surrogate,
        getattr(call, "refractory", 0) > 0,
        getattr(call, "max_spikes", 1) > 1,
        tuple(tensors),
    )


def source_of(neuron: Neuron, variant: Variant, plan: KernelPlan | None = None) -> str:
    """Return the C++ of the kernel."""
    plan = plan or plan_of(neuron, variant)
    name, cuda = type_name(neuron.name), variant.target != "cpu"
    states = states_of(neuron, variant)
    return emit.library_source(name, plan, states, dtype=variant.dtype, recurrent=variant.recurrent, cuda=cuda)


def plan_of(neuron: Neuron, variant: Variant) -> KernelPlan:
    """Return the plan of the kernel."""
    return make_plan(traced(neuron, variant))


def states_of(neuron: Neuron, variant: Variant) -> list[str]:
    """Return the names of the states of the kernel."""
    return [*neuron.states, *["r"] * variant.refractory]


def traced(neuron: Neuron, variant: Variant) -> TracedStep:
    """Trace one step of the kernel."""
    graph = StepGraph(check.state_dtype(variant.dtype))
    names = [name for name in neuron.kernel_parameters if name != "v_reset" or variant.hard_reset]
    names += [ALPHA] * (isinstance(variant.surrogate, str) and neuron.fires)
    names += ["refractory"] * variant.refractory + ["max_spikes"] * variant.several
    numbers = {name: graph.leaf("number", name, NUMBER) for name in names if name not in variant.tensors}
    tensors = {name: graph.leaf("tensor", name, NEURON) for name in variant.tensors}
    call_type = refractory_of(neuron.call)

    def call(parameters: dict[str, Value]) -> Any:
        surrogate = variant.surrogate
        if isinstance(surrogate, str):
            surrogate = TracedSurrogate(surrogate, parameters[ALPHA]) if neuron.fires else None
        values = {name: parameters.get(name) for name in call_type._fields} | {"fires": True, "surrogate": surrogate}
        values |= {name: getattr(variant, name) for name in ("hard_reset", "strict", "detach_reset")}
        return call_type(**values | {"max_spikes": parameters.get("max_spikes", 1.0)})

    return trace_call(neuron, call, len(states_of(neuron, variant)), graph=graph, numbers=numbers, tensors=tensors)
