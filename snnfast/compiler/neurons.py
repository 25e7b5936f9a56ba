"""C++ headers of the package's neurons, from their equations in :mod:`snnfast.reference`.

The build calls :func:`write` and compiles the headers: generated code is not committed, so it cannot be outdated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from snnfast.reference.call import Parameter, fields_of_kind
from snnfast.reference.neuron import parameters_of, whole_step
from snnfast.reference.neuron_arguments import NEURONS, Neuron, calls_of
from snnfast.reference.surrogate import SurrogateLike

from .emit import Layout, ResetPlan, camel, struct
from .expression import NEURON, NUMBER, Node, StepGraph, where
from .plan import make_plan
from .trace import TracedStep, trace
from .value import Value

__all__ = ["STEMS", "header", "step_of", "write"]

RESETS = ("hard", "soft", "none")
# NeuronArgument::Kind in csrc/core/any_neuron.h by type; flags that all neurons have are kinds themselves.
KINDS: dict[Any, str] = {
    Tensor: "input",
    Tensor | None: "state",
    Parameter: "parameter",
    bool: "flag",
    int: "integer",
    float: "number",
    SurrogateLike: "surrogate",
}
FLAGS = ("hard_reset", "fires", "detach_reset", "return_state", "return_v_seq")


def _calls() -> dict[str, Any]:
    """Return the call type of every kernel by its stem; refractory neurons have separate kernels."""
    found: dict[str, Any] = {}
    for neuron in NEURONS.values():
        stem = neuron.call.__module__.rpartition(".")[2]
        found |= zip((stem, f"refractory_{stem}"), calls_of(neuron))
    return found


STEMS = _calls()


class _SlopeOfKernel:
    """The surrogate of a kernel, whose slope is an argument of its backward pass."""

    def __init__(self, slope: Node) -> None:
        self.slope = slope
        self.margin: Node | None = None
        self.places = [0]

    def __call__(self, u: Value) -> Value:
        self.margin = u.node
        graph = u.node.graph
        spikes = where(graph.node("fires", *u.node.args), 1.0, 0.0)
        return Value.from_node(graph.node("custom", spikes, u.node, value=self))

    def backward(self, grad: Node) -> list[Node]:
        return [grad * self.slope]

    def __repr__(self) -> str:
        return "spike"


def step_of(call: Any) -> tuple[TracedStep, list[str]]:
    """Trace one step of the package's neurons of a call with its flags; also return the names of the states.

    The output of a readout is its membrane.
    """
    graph = StepGraph(torch.float32)
    numbers, tensors = {}, {}
    for name in fields_of_kind(type(call), Parameter):
        if isinstance(getattr(call, name), Tensor):
            tensors[name] = graph.leaf("tensor", name, NEURON)
        else:
            numbers[name] = graph.leaf("number", name, NUMBER)
    reset = "none" if not call.fires else "hard" if call.hard_reset else "soft"
    step, _ = _traced(type(call), reset, graph, call._asdict(), numbers=numbers, tensors=tensors)
    outputs = step.outputs if call.fires else step.after[:1]
    return step._replace(outputs=outputs), list(fields_of_kind(type(call), Tensor | None))


def _traced(
    call_type: Any, reset: str, graph: StepGraph, settings: dict[str, Any], **leaves: dict[str, Node]
) -> tuple[TracedStep, Node | None]:
    """Trace one step of a neuron of the package; also return the argument of the surrogate's slope.

    Args:
        call_type: the type of its call.
        reset: one of ``RESETS``.
        graph: the graph of all its steps.
        settings: flags and numbers that are no parameters, or leaves for them.
        leaves: the parameters that are numbers or tensors, as for :func:`trace`.
    """
    spike = _SlopeOfKernel(graph.leaf("given", "slope"))
    values = {n: Value.from_node(v, is_argument=True) if isinstance(v, Node) else v for n, v in settings.items()}
    values |= {
        "hard_reset": reset == "hard",
        "fires": reset != "none",
        "strict": False,  # part of the number that the margin is compared with
        "surrogate": spike,
        "detach_reset": Value.from_node(graph.leaf("given", "attached") == 0),
        "max_spikes": values.get("max_spikes", 1.0) if reset == "soft" else 1.0,
    }

    def call(parameters: dict[str, Value]) -> Any:
        fields = values | parameters
        return call_type(*(fields.get(name) for name in call_type._fields))

    states = len(fields_of_kind(call_type, Tensor | None))
    return trace_call(call_type.neuron, call, states, graph=graph, **leaves), spike.margin


def trace_call(neuron: Neuron, call: Callable[[dict[str, Value]], Any], states: int, **options: Any) -> TracedStep:
    """Trace one step of a neuron, with refractory period and reset.

    Args:
        neuron: the neuron.
        call: returns its call from the traced parameters.
        states: number of its states.
        options: graph and leaves, as for :func:`trace`.
    """

    def step(parameters: dict[str, Value], *values: Value) -> tuple[Any, ...]:
        made, split = call(parameters), len(neuron.inputs)
        outputs, after = whole_step(made, parameters_of(made), values[:split], values[split:])
        return (*outputs, *after)

    step.__name__, step.__wrapped__ = neuron.name, neuron.step  # type: ignore[attr-defined]
    return trace(step, inputs=len(neuron.inputs), states=states, **options)


def header(stem: str) -> str:
    """Return the header of a neuron: the struct of ``csrc/core/neuron.h``, with the arguments of its operators."""
    call = STEMS[stem]
    neuron, hints, graph = call.neuron, get_type_hints(call), StepGraph(torch.float32)
    generic = stem.startswith("refractory_")
    reads = any(other.call is call and not other.fires for other in NEURONS.values())
    params = list(fields_of_kind(call, Parameter))
    leaves = {name: graph.leaf("parameter", name, NEURON) for name in params}
    shared = {name: graph.leaf("setting", name, NUMBER) for name in call._fields if hints[name] in (bool, int, float)}
    flags_and_numbers = {n: leaf != 0 if hints[n] is bool else leaf for n, leaf in shared.items()}
    plans, moves = [], False
    for reset in RESETS[: 3 if reads else 2]:
        found, margin = _traced(call, reset, graph, flags_and_numbers, tensors=leaves)
        for uniform in (False,) if generic else (True, False):
            plan = make_plan(found._replace(tensors={} if uniform else leaves), margin)
            plans.append(ResetPlan(plan, reset, uniform))
        moves |= margin is not None and margin.args[1].op != "parameter"
    step_arguments = {*neuron.parameters, *(("refractory", "max_spikes") if generic else ())}
    settings = ["strict", *(f for f in call._fields if f in step_arguments and f not in params)]
    flags = {"kMoves": moves, "kGeneric": generic, "kReads": reads}
    flags |= {"kPrefetch": neuron.prefetch, "kTakesSlope": True}
    states = list(fields_of_kind(call, Tensor | None))
    text = struct(camel(stem), plans, Layout(states, params, 0, settings, flags))
    arguments = ",\n".join(
        f'      {{"{name}", NeuronArgument::{name if name in FLAGS else KINDS[hints[name]]}'
        f"{f', kOf{camel(name)}' if name in settings else ''}}}"
        for name in call._fields
    )
    equation = stem.removeprefix("refractory_")
    return f"""// Made from the equation of {equation} in snnfast/reference by snnfast/compiler/neurons.py.
#pragma once
#include "core/any_neuron.h"
#include "core/functions.h"

namespace snnfast {{

{text.removesuffix("};" + chr(10)).rstrip()}

  static constexpr NeuronArgument kArguments[] = {{
{arguments}}};
}};

}}  // namespace snnfast
"""


def write(folder: str, stems: Iterable[str] = STEMS) -> list[str]:
    """Write the headers of neurons, and one that lists them; return the stems.

    Unchanged headers are not rewritten, so that nothing is compiled again.
    """
    headers = {stem: header(stem) for stem in stems}
    includes = "".join(f'#include "core/{stem}.h"\n' for stem in headers)
    entries = " \\\n".join(f"  NEURON({stem}, {camel(stem)})" for stem in headers)
    listed = f"""// The neurons of this build, made by snnfast/compiler/neurons.py: NEURON(stem, struct) for each.
#pragma once
{includes}
#define SNNFAST_NEURONS(NEURON) \\
{entries}
"""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in (*headers.items(), ("neurons", listed)):
        path = Path(folder, f"{name}.h")
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return list(headers)
