"""``torch.jit.script`` functions in a traced ``forward``, as calls of PyTorch: :func:`followed_scripts`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from .known import COMPUTED

__all__ = ["followed_scripts"]

_KNOWN = COMPUTED | {"cat", "clone", "detach", "mean", "stack", "sum"}


@contextlib.contextmanager
def followed_scripts() -> Iterator[None]:
    """Let ``torch.jit.script`` functions that are called with proxies run node by node inside the block."""
    kind: Any = torch.jit.ScriptFunction
    call = kind.__call__

    def run(function: Any, *arguments: Any, **named: Any) -> Any:
        if any(isinstance(value, fx.Proxy) for value in (*arguments, *named.values())):
            return _follow(function, arguments, named)
        return call(function, *arguments, **named)

    kind.__call__ = run
    try:
        yield
    finally:
        kind.__call__ = call


def _follow(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Run the graph of a function on proxies.

    Raises:
        ValueError: for a node that is no call of an elementwise function, a join or a reduction.
    """
    graph, expected = function.inlined_graph, function.schema.arguments
    values: dict[str, Any] = {}
    for k, (value, argument) in enumerate(zip(graph.inputs(), expected)):
        default = named.get(argument.name, argument.default_value)
        values[value.debugName()] = arguments[k] if k < len(arguments) else default
    for node in graph.nodes():
        inputs = [values[value.debugName()] for value in node.inputs()]
        package, _, name = node.kind().partition("::")
        result: Any
        if node.kind() == "prim::Constant":
            result = node.output().toIValue()
        elif node.kind() in ("prim::ListConstruct", "prim::TupleConstruct"):
            result = tuple(inputs)
        elif package == "aten" and name in _KNOWN:
            result = _called(name, torch._C.parse_schema(node.schema()).arguments, inputs)
        else:
            raise ValueError(
                f"it calls {function.name}, a torch.jit.script function with {node.kind()}, which is not followed; "
                "call the Python function that was scripted"
            )
        values[node.output().debugName()] = result
    (output,) = graph.outputs()
    return values[output.debugName()]


def _called(name: str, schema: Any, inputs: list[Any]) -> Any:
    # Python's functions have fewer positional arguments, but the same names.
    positional = [value for argument, value in zip(schema, inputs) if not argument.has_default_value()]
    keywords = {a.name: v for a, v in zip(schema, inputs) if a.has_default_value() and v != a.default_value}
    return getattr(torch, name)(*positional, **keywords)
