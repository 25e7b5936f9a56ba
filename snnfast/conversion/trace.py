"""Trace of a ReLU network as nodes: folds batch norms, and gives every node a kind or refuses it by name."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.parameter import is_lazy

from snnfast import check
from snnfast.nn import SpikeConv2d, SpikeLinear
from snnfast.nn.graph import CHANGES_BUFFER, LayerGraph
from snnfast.nn.plain import plain_copy
from snnfast.nn.tracer import Tracer, place

from .analog import AnalogNode, Placeholder
from .kinds import (
    DIMS,
    HOMOGENEOUS,
    HOMOGENEOUS_FUNCTIONS,
    MAX_POOL_FUNCTIONS,
    MAX_POOLS,
    PRODUCT_FUNCTIONS,
    PRODUCTS,
    flattens_all,
    function_of,
    kind_of,
)
from .qcfs import QCFS

HOOKED = "it has a forward hook or a forward of its own, which spikes would not pass; remove it"
# Part of a message of torch.fx -> the cause.
UNTRACEABLE = {
    "inputs to control flow": "its forward branches on values or on the shape of a tensor, as by if, while or assert, "
    "and only one way can be converted; take the branch out",
    "does not support item assignment": "its forward writes into a part of a tensor; make a new one, as by torch.cat",
    "cannot be iterated": "its forward goes through the rows of a tensor; let one layer take them all",
    "'len' is not supported": "its forward takes the len() of a tensor; write x.shape[0]",
}
# Layers of this package -> equivalent layers of PyTorch.
DROP_INS: dict[type[nn.Module], type[nn.Module]] = {SpikeConv2d: nn.Conv2d, SpikeLinear: nn.Linear}


@dataclass(frozen=True)
class Traced:
    """A network as plain nodes, with the parts that they use.

    Attributes:
        nodes: nodes by name, in the order in which they run.
        result: the name of the node that returns the scores.
        parts: the modules, parameters and buffers that nodes use, by name.
        thresholds: thresholds that the network has learned (QCFS), by node name.
    """

    nodes: dict[str, AnalogNode]
    result: str
    parts: dict[str, nn.Module | Tensor]
    thresholds: dict[str, Tensor]


def max_pool1d(*args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's function under a name that can be pickled."""
    return F.max_pool1d(*args, **kwargs)  # type: ignore[no-any-return]


def max_pool2d(*args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's function under a name that can be pickled."""
    return F.max_pool2d(*args, **kwargs)  # type: ignore[no-any-return]


SAVED: dict[Any, Callable[..., Any]] = {F.max_pool1d: max_pool1d, F.max_pool2d: max_pool2d}


class _OneSignal(Tracer):
    """Tracer that calls a network with its first argument only."""

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Make the first argument the signal; the others keep their defaults, if all have one."""
        _, *signals = inspect.signature(root_fn).parameters.values()
        if signals[1:] and all(map(_is_optional, signals[1:])):
            call, root_fn = root_fn, lambda model, x: call(model, x)
        return super().create_args_for_root(root_fn, is_module, concrete_args)


def _is_optional(parameter: inspect.Parameter) -> bool:
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.kind in several or parameter.default is not inspect.Parameter.empty


def trace(model: nn.Module, *, max_pool: str = "rate") -> Traced:
    """Trace ``model`` in evaluation mode; the model itself is not changed.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: it cannot be traced or converted; the message names all such nodes.
    """
    check.module("convert", "model", model)
    try:
        model = plain_copy(model)
    except Exception as error:
        raise ValueError(
            f"convert: {type(model).__name__} cannot be copied ({error}); take out what copy.deepcopy refuses"
        ) from error
    for tensor in (*model.parameters(), *model.buffers()):
        if not is_lazy(tensor):
            tensor.data = tensor.data.contiguous()
    for module in model.modules():
        module.__class__ = DROP_INS.get(type(module), type(module))
    drawn, written = torch.get_rng_state(), _versions(model)
    try:
        graph = _OneSignal(QCFS).trace(model)
    except Exception as error:
        raise ValueError(f"convert: {type(model).__name__} cannot be traced by torch.fx: {_cause(error)}") from error
    # Calls that do not depend on the images have run during the trace; their results would become constants.
    drew = not torch.equal(drawn, torch.get_rng_state())
    if drew or written != _versions(model):
        why = "it draws at random in evaluation as well" if drew else CHANGES_BUFFER
        raise ValueError(f"convert: cannot be converted:\n  forward of {type(model).__name__}: {why}")
    return _Conversion(model, graph).traced(max_pool)


def _versions(model: nn.Module) -> list[int]:
    tensors = (*model.parameters(), *model.buffers())
    return [tensor._version for tensor in tensors if not tensor.is_inference()]


def _cause(error: Exception) -> str:
    text = str(error)
    return next((cause for part, cause in UNTRACEABLE.items() if part in text), text)


class _Conversion(LayerGraph):
    """The graph of a model during its conversion to nodes."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph, chains=False)
        self.refused: dict[fx.Node | None, str] = {}

    def traced(self, max_pool: str) -> Traced:
        """Rewrite the graph, and return its nodes with their kinds."""
        self._refuse_hooks()
        for node in self.graph.nodes:
            _by_position(node)
        self.leave_out()
        for node, why in self.write_out_of_place().items():
            self.refused[node] = f"{self._place(node)}: {why}"
        products, _ = self.fold()
        self.rows = {node for layer, node in products.items() if isinstance(layer, nn.Linear)}
        for node in reversed(self.graph.nodes):
            if not node.users and node.op not in ("placeholder", "output"):
                self.graph.erase_node(node)
        return self._named(max_pool)

    def _refuse_hooks(self) -> None:
        called: list[tuple[fx.Node | None, nn.Module]] = [(None, self.net)]
        called += [(n, self.layer(n)) for n in self.graph.nodes if n.op == "call_module"]
        for node, layer in called:
            if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
                place = type(layer).__name__ if node is None else self._place(node)
                self.refused[node] = f"{place}: {HOOKED}"

    def _named(self, max_pool: str) -> Traced:
        kinds: dict[fx.Node, str] = {}
        nodes: dict[str, AnalogNode] = {}
        parts: dict[str, nn.Module | Tensor] = {}
        thresholds: dict[str, Tensor] = {}
        *ordered, output = self.graph.nodes
        for node in ordered:
            layer = self.layer(node)
            kind, why = kind_of(node, layer, kinds)
            kinds[node] = kind
            if kind == "max_pool" and max_pool == "refuse":
                why = "max_pool='refuse' was given; use average pooling, or max_pool='rate'"
            if why:
                self.refused.setdefault(node, f"{self._place(node)}: {why}")
            elif isinstance(layer, QCFS) and kind == "spiking":
                thresholds[node.name] = layer.threshold.detach().clone()
            elif layer is not None and kind != "spiking":
                parts[str(node.target)] = layer
            elif node.op == "get_attr":
                path = str(node.target)
                parts.setdefault(path, operator.attrgetter(path)(self.net))
            nodes[node.name] = self._node(node, kind, layer)
        if self.refused:
            raise ValueError("\n  ".join(["convert: cannot be converted:", *self.refused.values()]))
        values = list(kinds.values())
        if values.count("input") != 1:
            raise ValueError(f"convert: the model must take one tensor, got {values.count('input')}")
        if "spiking" not in values:
            raise ValueError("convert: the model has no ReLU, so there is nothing that could spike")
        result = output.args[0]
        if not isinstance(result, fx.Node):
            raise ValueError("convert: the model must return one tensor, not several")
        return Traced(nodes, result.name, parts, thresholds)

    def _node(self, node: fx.Node, kind: str, layer: nn.Module | None) -> AnalogNode:
        function = function_of(node) if layer is None else type(layer)
        is_product = function in PRODUCTS
        flat = flattens_all(node, layer)
        is_homogeneous = function in (*HOMOGENEOUS, *MAX_POOLS) or (
            node.op == "call_function" and function in HOMOGENEOUS_FUNCTIONS | MAX_POOL_FUNCTIONS
        )
        read: Any = lambda n: Placeholder(n.name)  # noqa: E731
        args: Any = fx.map_arg(node.args, read)
        kwargs: Any = fx.map_arg(node.kwargs, read)
        return AnalogNode(
            node.name,
            kind,
            self._place(node),
            node.op,
            SAVED.get(node.target, node.target),
            # A ReLU may have the argument inplace.
            args[:1] if kind == "spiking" else args,
            {} if kind == "spiking" else dict(kwargs),
            is_product=is_product,
            is_homogeneous=is_homogeneous and flat is not False,
            is_flatten=bool(flat),
            dims=2 if node in self.rows else DIMS.get(function),
        )

    def _place(self, node: fx.Node) -> str:
        """Return the position of a node, for messages."""
        if node.op == "call_module":
            return f"{node.target} ({type(self.layer(node)).__name__})"
        return place(node)


def _by_position(node: fx.Node) -> None:
    """Make keyword arguments that later steps read positional."""
    function = function_of(node)
    names: tuple[str, ...] = ("input", "other")
    if node.op == "call_module":
        names = tuple(node.kwargs)
    elif function in PRODUCT_FUNCTIONS:
        names = ("input", "weight", "bias")
    elif "tensors" in node.kwargs:
        names = ("tensors",)
    kwargs = dict(node.kwargs)
    args = list(node.args)
    for name in names[len(args) :]:
        if name not in kwargs:
            break
        args.append(kwargs.pop(name))
    node.args, node.kwargs = tuple(args), kwargs
