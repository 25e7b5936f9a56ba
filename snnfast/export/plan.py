"""A network as a list of layers, in the order in which they run."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from snnfast import check
from snnfast.nn import Recurrent, reset
from snnfast.nn.graph import LayerGraph
from snnfast.nn.multi_step import in_time
from snnfast.nn.plain import plain_copy, refuse_hooks, takes_one
from snnfast.nn.tracer import Tracer, place
from snnfast.ports.own import own_layers

__all__ = ["LayerNode", "at_rest", "input_dtype", "input_shape_of", "layers_of", "replace"]

_SUMS = (operator.add, torch.add, "add")


class LayerNode(NamedTuple):
    """A node of the list of layers: a layer, or a sum.

    Attributes:
        name: name of the layer in the network's ``named_modules``.
        module: the layer; None for the sum of two ``inputs``.
        inputs: indices of its inputs in the list; -1 is the network's input.
        before, after: shapes of an input and output sample, without steps and batch; dimensions of a Flatten refer to
            these.
        dtype: dtype of its output.
    """

    name: str
    module: nn.Module | None
    inputs: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dtype: torch.dtype


def at_rest(function: str, net: nn.Module, *leaves: type[nn.Module]) -> nn.Module:
    """Return a copy of ``net`` for :func:`layers_of`: in evaluation on the CPU, with plain float32 weights.

    Raises:
        TypeError, ValueError: with the name of the ``function``, if ``net`` is no module, takes more than one input, or
            has hooks.
    """
    takes_one(function, net)
    still = plain_copy(net).cpu().float().requires_grad_(False)
    refuse_hooks(function, still)
    still = own_layers(function, still)
    if Tracer(*leaves).is_leaf_module(still, ""):
        still = nn.Sequential(still)
    still = in_time(still, training=False)
    reset(still)
    return still


def input_shape_of(function: str, net: nn.Module, shape: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of a sample: ``shape``, or that of the first layer of ``net``.

    Raises:
        TypeError, ValueError: with the name of the ``function``, for an invalid shape, and for None if the first layer
            takes several shapes.
    """
    if shape is not None:
        sizes = tuple(check.sizes(function, "input_shape", shape))
        if len(sizes) not in (1, 3):
            raise ValueError(f"{function}: input_shape must be [features] or [C, H, W], got {list(sizes)}")
        return sizes
    first = next(m for m in net.modules() if not list(m.children()) or isinstance(m, Recurrent))
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    if isinstance(first, Recurrent):
        return (first.features,)
    raise ValueError(
        f"{function}: give input_shape: the first layer, a {type(first).__name__}, takes inputs of several sizes"
    )


def input_dtype(net: nn.Module) -> torch.dtype:
    """Return the dtype of the samples that ``net`` takes."""
    return torch.int8 if any(p.dtype == torch.int8 for p in net.parameters()) else torch.float32


def replace(net: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace the module of that ``name`` by ``layer``."""
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, layer)


def layers_of(net: nn.Module, input_shape: Sequence[int], *leaves: type[nn.Module]) -> list[LayerNode]:
    """Return the layers of ``net``, a result of :func:`at_rest`; the output of the last one is that of the network.

    Batch normalisations are folded into the products directly before them, also in ``net``. Additions in place become
    sums that later layers read. No-op layers are left out.

    Args:
        net: the network.
        input_shape: shape of a sample.
        leaves: types that count as one layer, besides those of ``torch.nn`` and :mod:`snnfast.nn`.

    Raises:
        ValueError: for an operation that is neither a layer nor a sum, by name, for a normalisation that cannot be
            folded, and for a ``forward`` that cannot be traced.
    """
    try:
        trace = Tracer(*leaves).trace(net)
    except Exception as error:  # forward may raise anything when it computes with proxies
        raise ValueError(f"{type(net).__name__} cannot be traced by torch.fx: {error}") from error
    graph = LayerGraph(net, trace)
    graph.leave_out()
    builder = _ListBuilder(graph, tuple(input_shape))
    for node, why in graph.write_out_of_place().items():
        raise ValueError(f"{place(node)}: {why}")
    _, stays = graph.fold()
    for name, layer in graph.layers.items():
        if layer in stays:
            raise ValueError(f"{name}, a {type(layer).__name__}, cannot be folded: {stays[layer]}")
    for node in trace.nodes:
        if node.op == "placeholder":
            builder.begin(node)
        elif node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
            builder.layer(node)
        elif node.op in ("call_function", "call_method") and builder.adds(node):
            builder.sum(node)
        elif node.op == "output":
            builder.end(node.args[0])
        else:
            raise ValueError(f"{place(node)} is no layer")
    return builder.nodes


class _TracedValue(NamedTuple):
    """A traced value: index of its layer, example for one step of one sample, and whether it has a time dimension."""

    place: int
    x: Tensor
    timed: bool

    @property
    def lead(self) -> int:
        return 2 if self.timed else 1


class _ListBuilder:
    """Builder of the list of layers, along a traced network."""

    def __init__(self, graph: LayerGraph, input_shape: tuple[int, ...]) -> None:
        self.graph, self.input_shape = graph, input_shape
        self.nodes: list[LayerNode] = []
        self.values: dict[Any, _TracedValue] = {}
        self.used: set[str] = set()

    def begin(self, node: fx.Node) -> None:
        """Add the network's input."""
        if self.values:
            raise ValueError(f"net must take one input, got also {node.name}")
        x = torch.zeros(1, 1, *self.input_shape, dtype=input_dtype(self.graph.net))
        self.values[node] = _TracedValue(-1, x, True)

    def layer(self, node: fx.Node) -> None:
        """Add a call of a layer."""
        name, layer, found = str(node.target), self.graph.layer(node), self.values[node.args[0]]
        if found.timed and node.meta.get("in_time"):
            output = self._run(name, layer, _TracedValue(found.place, found.x.flatten(0, 1), False))
            self.values[node] = _TracedValue(output.place, output.x.unflatten(0, (1, 1)), True)
        else:
            self.values[node] = self._run(name, layer, found)

    def adds(self, node: fx.Node) -> bool:
        """Return whether ``node`` is a sum of two values."""
        plain = len(node.args) == 2 and all(a in self.values for a in node.args)
        return plain and not node.kwargs and node.target in _SUMS

    def sum(self, node: fx.Node) -> None:
        """Add a sum of two values."""
        a, b = map(self.values.__getitem__, node.args)
        if a.x.shape != b.x.shape:
            raise ValueError(f"{place(node)} adds samples {list(a.x.shape[a.lead :])} and {list(b.x.shape[b.lead :])}")
        self.values[node] = self._add(node.name, None, [a, b], a.x + b.x, a.lead)

    def end(self, result: Any) -> None:
        """Check that the network returns one tensor, the output of its last layer."""
        is_layer_output = isinstance(result, fx.Node) and bool(self.nodes)
        if not is_layer_output or self.values[result].place != len(self.nodes) - 1:
            raise ValueError("net must return one tensor, what its last layer gives")

    def _run(self, name: str, layer: nn.Module, value: _TracedValue) -> _TracedValue:
        subject, shape = f"{name}, a {type(layer).__name__},", list(value.x.shape[value.lead :])
        if name in self.used:
            raise ValueError(f"{name} runs twice; give each place a layer of its own")
        self.used.add(name)
        try:
            with torch.no_grad():
                y = layer(value.x)
        except Exception as error:  # layers may raise anything for a wrong shape
            raise ValueError(
                f"{subject} does not take {shape}, which input_shape = {list(self.input_shape)} leads to: {error}"
            ) from error
        if not isinstance(y, Tensor):
            raise ValueError(f"{subject} returns more than one tensor")
        if isinstance(layer, nn.Flatten):
            start, end = (d % value.x.dim() - value.lead for d in (layer.start_dim, layer.end_dim))
            if start < 0:
                raise ValueError(
                    f"{subject} mixes samples; start_dim must be at least {value.lead}, got {layer.start_dim}"
                )
            return self._add(name, nn.Flatten(start, end), [value], y, value.lead)
        lost = value.x.dim() - y.dim() == 1  # a readout removes the time dimension
        return self._add(name, layer, [value], y, value.lead - lost)

    def _add(
        self, name: str, module: nn.Module | None, sources: Sequence[_TracedValue], y: Tensor, lead: int
    ) -> _TracedValue:
        first = sources[0]
        places = tuple(s.place for s in sources)
        before, after = tuple(first.x.shape[first.lead :]), tuple(y.shape[lead:])
        self.nodes.append(LayerNode(name, module, places, before, after, y.dtype))
        return _TracedValue(len(self.nodes) - 1, y, lead == 2)
