"""A network from the list of its layers: :func:`joined`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import fx, nn

from .scale import Scale
from .state import Stateful
from .time import Time

__all__ = ["PlainLayer", "joined"]


class PlainLayer(NamedTuple):
    """A layer, or a sum if ``module`` is None, with the indices of its inputs; -1 is the network's input."""

    name: str
    module: nn.Module | None
    inputs: tuple[int, ...]


def joined(layers: Sequence[PlainLayer], result: int, *ends: nn.Module) -> nn.Sequential:
    """Return a network over ``[T, B, ...]`` in evaluation mode; layers without time stand in :class:`Time`.

    Args:
        layers: layers in the order in which they run, with names that differ.
        result: index of the layer whose output ``ends`` take.
        ends: what stands behind them, such as a readout.

    Returns:
        A chain, or a graph and its ``ends``.
    """
    chain = all(layer.inputs == (index - 1,) for index, layer in enumerate(layers))
    if chain and result == len(layers) - 1:
        return nn.Sequential(*_in_time(layers), *ends).eval()
    graph, modules = fx.Graph(), dict[str, nn.Module]()
    nodes: list[fx.Node] = []
    x = graph.placeholder("x")
    for name, module, inputs in layers:
        values = tuple(x if place < 0 else nodes[place] for place in inputs)
        if module is None:
            nodes.append(graph.call_function(torch.add, values))
            continue
        modules[name] = module if _takes_time(module) else Time(module)
        nodes.append(graph.call_module(name, values))
    graph.output(nodes[result])
    return nn.Sequential(fx.GraphModule(modules, graph, "Layers"), *ends).eval()


def _in_time(layers: Sequence[PlainLayer]) -> list[nn.Module]:
    """Return the layers of a chain; neighbours without time share a :class:`Time`."""
    found: list[nn.Module] = []
    modules = [layer.module for layer in layers if layer.module is not None]
    for timed, group in itertools.groupby(modules, _takes_time):
        neighbours = list(group)
        found += neighbours if timed else [Time(*neighbours)]
    return found


def _takes_time(module: nn.Module) -> bool:
    return isinstance(module, (Stateful, Scale))
