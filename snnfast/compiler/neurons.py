"""C++ headers of the package's neurons, from their equations in :mod:`snnfast.reference`.

The build calls :func:`write` and compiles the headers: generated code is not committed, so it cannot be outdated.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from snnfast.reference.call import Parameter, fields_of_kind
from snnfast.reference.neuron import EQUATIONS, Frame, parameters_of, whole_step
from snnfast.reference.neuron_arguments import NEURONS, calls_of
from snnfast.reference.surrogate import SurrogateLike

from .emit import Layout, Variant, camel, struct
from .expression import NEURON, NUMBER, Graph, Node, where
from .plan import make_plan
from .trace import Step, trace
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


class _Spike:
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


def step_of(call: Any) -> tuple[Step, list[str]]:
    """Trace one step of the neurons of a call with its flags; also return the names of the states.

    The output of a readout is its membrane.
    """
    graph, leaves = Graph(torch.float32), {}
    for name in fields_of_kind(type(call), Parameter):
        is_tensor = isinstance(getattr(call, name), Tensor)
        kind = ("tensor", name, NEURON) if is_tensor else ("number", name, NUMBER)
        leaves[name] = graph.leaf(*kind)
    reset = "none" if not call.fires else "hard" if call.hard_reset else "soft"
    step, _ = _traced(type(call), reset, graph, leaves, call._asdict())
    numbers = {name: leaf for name, leaf in leaves.items() if leaf.op == "number"}
    tensors = {name: leaf for name, leaf in leaves.items() if leaf.op == "tensor"}
    states = list(fields_of_kind(type(call), Tensor | None))
    outputs = step.outputs if call.fires else step.after[:1]
    return step._replace(numbers=numbers, tensors=tensors, outputs=outputs), states


def _traced(
    call: Any, reset: str, graph: Graph, leaves: dict[str, Node], settings: dict[str, Any]
) -> tuple[Step, Node | None]:
    """Trace one step of a neuron; also return the argument of the surrogate's slope.

    Args:
        call: the type of its call.
        reset: one of ``RESETS``.
        graph: the graph of all its steps.
        leaves: its parameters by name.
        settings: flags and numbers that are no parameters, or leaves for them.
    """
    step, spike = EQUATIONS[call].step, _Spike(graph.leaf("given", "slope"))
    values = {
        n: Value.from_node(v, is_argument=True) if isinstance(v, Node) else v for n, v in (settings | leaves).items()
    }
    period, most = values.get("refractory"), values.get("max_spikes", 1.0)
    frame = Frame(
        values["v_reset"],
        reset == "hard",
        False,  # strict is part of the number that the margin is compared with
        Value.from_node(graph.leaf("given", "attached") == 0),
        spike,
        period,
        most if reset == "soft" else 1.0,
        reset != "none",
    )
    arguments = {name: values[name] for name in parameters_of(step)}

    def whole(_: Any, x: Value, *values: Value) -> tuple[Any, ...]:
        outputs, after = whole_step(step, frame, [x], values, arguments)
        return (*outputs, *after)

    whole.__name__ = call.__name__
    whole.__wrapped__ = step  # type: ignore[attr-defined]
    found = trace(
        whole,
        inputs=1,
        states=len(fields_of_kind(call, Tensor | None)),
        numbers=[],
        tensors=[],
        dtype=graph.dtype,
        frame=lambda leaves: leaves,  # type: ignore[arg-type, return-value]
        visible=[],
        graph=graph,
    )
    return found, spike.margin


def header(stem: str) -> str:
    """Return the header of a neuron: the struct of ``csrc/core/neuron.h``, with the arguments of its operators."""
    call = STEMS[stem]
    equation, hints, graph = EQUATIONS[call], get_type_hints(call), Graph(torch.float32)
    generic = stem.startswith("refractory_")
    params = list(fields_of_kind(call, Parameter))
    leaves = {name: graph.leaf("parameter", name, NEURON) for name in params}
    shared = {name: graph.leaf("setting", name, NUMBER) for name in call._fields if hints[name] in (bool, int, float)}
    flags_and_numbers = {n: leaf != 0 if hints[n] is bool else leaf for n, leaf in shared.items()}
    variants, moves = [], False
    for reset in RESETS[: 3 if equation.reads else 2]:
        found, margin = _traced(call, reset, graph, leaves, flags_and_numbers)
        for uniform in (False,) if generic else (True, False):
            plan = make_plan(found._replace(tensors={} if uniform else leaves), margin)
            variants.append(Variant(plan, reset, uniform))
        moves |= margin is not None and margin.args[1].op != "parameter"
    step_arguments = {*parameters_of(equation.step), *(("refractory", "max_spikes") if generic else ())}
    settings = ["strict", *(f for f in call._fields if f in step_arguments and f not in params)]
    flags = {"kMoves": moves, "kGeneric": generic, "kReads": equation.reads}
    flags |= {"kPrefetch": equation.prefetch, "kTakesSlope": True}
    states = list(fields_of_kind(call, Tensor | None))
    text = struct(camel(stem), variants, Layout(states, params, 0, settings, flags))
    arguments = ",\n".join(
        f'      {{"{name}", NeuronArgument::{name if name in FLAGS else KINDS[hints[name]]}'
        f"{f', kOf{camel(name)}' if name in settings else ''}}}"
        for name in call._fields
    )
    neuron = stem.removeprefix("refractory_")
    return f"""// Made from the equation of {neuron} in snnfast/reference by snnfast/compiler/neurons.py.
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
