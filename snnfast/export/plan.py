"""A network as a list of layers, in the order in which they run."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from snnfast.nn import Time
from snnfast.nn.tracer import Tracer, place

__all__ = ["Node", "layers_of"]

_SUMS = (operator.add, operator.iadd, torch.add)


class Node(NamedTuple):
    """A layer, or a sum.

    Attributes:
        name: of the layer in the network's ``named_modules``.
        module: the layer; None for the sum of two ``inputs``.
        inputs: the places of those in the list that feed it; -1 is the network's input.
        before, after: shapes of a sample, without steps and batch.
        lead: how many dimensions the layer sees before those of a sample.
    """

    name: str
    module: nn.Module | None
    inputs: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    lead: int


class _Found(NamedTuple):
    """A value: its place, what it is for one step of one sample, and whether it has steps."""

    place: int
    x: Tensor
    timed: bool


def layers_of(net: nn.Module, input_shape: Sequence[int]) -> list[Node]:
    """The layers of ``net``, a ``nn.Sequential`` or another container; the last one gives its output.

    Raises:
        ValueError: for what is neither a layer nor a sum, by name.
    """
    nodes: list[Node] = []
    values: dict[fx.Node, _Found] = {}
    used: set[str] = set()
    given: Any = None

    def add(
        name: str,
        module: nn.Module | None,
        sources: Sequence[_Found],
        y: Tensor,
        lead: int,
        after: int,
    ) -> _Found:
        first = sources[0]
        places = tuple(s.place for s in sources)
        before = first.x.shape[2 if first.timed else 1 :]
        nodes.append(Node(name, module, places, tuple(before), tuple(y.shape[after:]), lead))
        return _Found(len(nodes) - 1, y, after == 2)

    for node in Tracer().trace(net).nodes:
        if node.op == "placeholder":
            if values:
                raise ValueError(f"net must take one input, got also {node.name}")
            values[node] = _Found(-1, torch.zeros(1, 1, *input_shape), True)
        elif node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
            module, before = net.get_submodule(node.target), values[node.args[0]]
            if node.target in used:
                raise ValueError(f"{node.target} runs twice; give each place a layer of its own")
            used.add(node.target)
            if isinstance(module, Time):
                now = before._replace(x=before.x.flatten(0, 1), timed=False)
                for name, layer in _one_by_one(f"{node.target}.layer", module.layer):
                    now = add(name, layer, [now], _run(name, layer, now.x), 1, 1)
                values[node] = _Found(now.place, now.x.unflatten(0, (1, 1)), True)
            else:
                y = _run(node.target, module, before.x)
                # A readout takes the steps away.
                lost = len(before.x.shape) - len(y.shape) == 1 and not isinstance(
                    module, nn.Flatten
                )
                lead = 2 if before.timed else 1
                values[node] = add(node.target, module, [before], y, lead, lead - lost)
        elif node.op in ("call_function", "call_method") and _is_sum(node, values):
            a, b = (values[n] for n in node.args)
            if a.x.shape != b.x.shape:
                raise ValueError(f"{node.name} adds {list(a.x.shape)} and {list(b.x.shape)}")
            lead = 2 if a.timed else 1
            values[node] = add(node.name, None, [a, b], a.x + b.x, lead, lead)
        elif node.op == "output":
            (given,) = node.args
        else:
            raise ValueError(f"{place(node)} is no layer")
    if not isinstance(given, fx.Node) or values[given].place != len(nodes) - 1 or not nodes:
        raise ValueError("net must return one tensor, what its last layer gives")
    return nodes


def _run(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = layer(x)
    if not isinstance(y, Tensor):
        raise ValueError(f"{name}, a {type(layer).__name__}, returns more than one tensor")
    return y


def _one_by_one(name: str, layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if type(layer) is nn.Sequential:
        for i, inner in enumerate(layer):
            yield from _one_by_one(f"{name}.{i}", inner)
    else:
        yield name, layer


def _is_sum(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    plain = len(node.args) == 2 and all(a in values for a in node.args) and not node.kwargs
    return plain and (node.target in _SUMS or node.target in ("add", "add_"))
