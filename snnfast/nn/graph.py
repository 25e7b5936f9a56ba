"""Trace of a network by ``torch.fx``, to find and rewrite its layers: :class:`LayerGraph`."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .folded import FoldedBatchNorm1d, FoldedBatchNorm2d, FoldedConv1d, FoldedConv2d
from .hooks import HOOKS, hooked
from .recomputed import Recomputed
from .sequential import Sequential
from .spike_conv2d import SpikeConv2d
from .spike_linear import SpikeLinear
from .state import without_graphs
from .time import DROPOUTS, Time
from .tracer import OPERATORS, Tracer

__all__ = ["CHANGES_BUFFER", "DROPOUT_FUNCTIONS", "LINEAR", "PRODUCTS", "LayerGraph", "tells_a_size"]

LINEAR = (nn.Linear, SpikeLinear)
# Products that each type of batch normalisation may follow: those with as many dimensions.
PRODUCTS: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    **dict.fromkeys((nn.BatchNorm1d, FoldedBatchNorm1d), (nn.Conv1d, FoldedConv1d, *LINEAR)),
    **dict.fromkeys((nn.BatchNorm2d, FoldedBatchNorm2d), (nn.Conv2d, SpikeConv2d, FoldedConv2d)),
    nn.BatchNorm3d: (nn.Conv3d,),
}
_READ_LATER = "it changes in place what is read again by another name; write it without changing it"
CHANGES_BUFFER = "it changes a parameter or buffer in place at every run, which a spiking network would not"
DROPOUT_FUNCTIONS = {F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout, torch.dropout}

_CHAINS = (nn.Sequential, Recomputed, Sequential)
_OUT_OF_PLACE: dict[Any, Any] = {
    **OPERATORS,
    **{f"{method}_": method for method in ("add", "sub", "mul", "div", "relu")},
    F.relu_: torch.relu,
    torch.relu_: torch.relu,
}
# They return a view of their input.
_VIEWS = {"view", "reshape", "flatten", "contiguous"}
_VIEW_FUNCTIONS = {operator.getitem, getattr, torch.flatten, torch.reshape}
_SIZES = {*(operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg), operator.getitem}


class LayerGraph:
    """Graph of the calls of a network; layers in ``nn.Sequential`` and ``Time`` are separate calls.

    Args:
        net: the network.
        graph: its trace, in which containers are replaced by their layers; ``meta["in_time"]`` of these is True inside
            of :class:`snnfast.nn.Time`.
        chains: False leaves containers as single calls.

    Attributes:
        layers: those that are called, by name.
        uses: number of calls of each layer.
        notes: remark for messages about layers that stay; empty where ``torch.fx`` traces ``forward``.
        replaced: the layers of ``net`` that :meth:`fold` has replaced, and what it has put there.
    """

    def __init__(self, net: nn.Module, graph: fx.Graph, *, chains: bool = True) -> None:
        self.net, self.graph, self.notes = net, graph, ""
        self.layers: dict[str, nn.Module] = {}
        for node in list(graph.nodes):
            if node.op == "call_module":
                self._take(node, chains)
        self.uses = Counter(self.layer(node) for node in graph.nodes if node.op == "call_module")
        reads = [n for n in graph.nodes if n.op == "get_attr" and not all(map(_form, n.users))]
        self._read = {_attribute(net, str(node.target)) for node in reads}
        self.replaced: dict[nn.Module, nn.Module] = {}

    @classmethod
    def trace(cls, net: nn.Module) -> LayerGraph:
        """Trace a copy of a network; ``net`` itself does not change.

        Where ``torch.fx`` cannot follow ``forward``, only neighbours in ``nn.Sequential`` and ``Time`` are known.
        """
        # A copy, since layers of other libraries may store their inputs.
        shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
        traced = copy.deepcopy(net, without_graphs(net) | shared)
        for module in traced.modules():  # hooks must not be called with proxies
            for attribute in HOOKS:
                module.__dict__[attribute] = type(module.__dict__[attribute])()
        try:
            return cls(net, Tracer().trace(traced))
        except Exception as error:  # forward may raise anything for proxies
            graph = fx.Graph()
            for name, module in net.named_modules():
                if isinstance(module, (nn.Sequential, Time)):
                    graph.create_node("call_module", name, (graph.placeholder("x"),))
            self = cls(net, graph)
            self.uses = Counter(module for _, module in net.named_modules(remove_duplicate=False))
            self.notes = f" (torch.fx cannot follow forward: {type(error).__name__}: {error})"
            return self

    def layer(self, node: Any) -> Any:
        """Return the layer that ``node`` calls; None for other nodes."""
        return self.layers[str(node.target)] if node.op == "call_module" else None

    def before(self, node: fx.Node) -> fx.Node | None:
        """Return the layer call whose output ``node`` takes, if nothing else reads that output."""
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
            return None
        return None if self._seen_leaving(str(source.target), str(node.target)) else source

    def leave_out(self) -> None:
        """Remove identities, and dropouts that evaluation skips."""
        for node in list(self.graph.nodes):
            if node.op == "call_module":
                leaves = type(self.layer(node)) in (*DROPOUTS, nn.Identity)
            else:
                is_dropout = node.op == "call_function" and node.target in DROPOUT_FUNCTIONS
                training = node.args[2] if len(node.args) > 2 else node.kwargs.get("train")
                leaves = is_dropout and not node.kwargs.get("training", training)
            if leaves:
                node.replace_all_uses_with(node.args[0])
                self.graph.erase_node(node)

    def write_out_of_place(self) -> dict[fx.Node, str]:
        """Replace ReLUs and arithmetic in place by variants that return a new tensor, which later nodes then read.

        Returns:
            Nodes that cannot be replaced, with the reasons: later nodes read the old tensor through an alias, such as a
            view, or it is a parameter or buffer.
        """
        refused: dict[fx.Node, str] = {}
        order = {node: i for i, node in enumerate(self.graph.nodes)}
        sizes: set[fx.Node] = set()
        for node in self.graph.nodes:
            in_place, source = self._is_in_place(node), node.args[0] if node.args else None
            if in_place and isinstance(source, fx.Node) and source not in sizes:
                if source.op == "get_attr":
                    refused[node] = CHANGES_BUFFER
                for user in [u for u in source.users if order[u] > order[node]]:
                    user.replace_input_with(source, node)
                aliases = self._views_beside(source, node)
                if any(order[u] > order[node] for alias in aliases for u in alias.users):
                    refused[node] = _READ_LATER
            if in_place and node not in refused:
                node.target = _OUT_OF_PLACE.get(node.target, node.target)
            if tells_a_size(node, sizes.__contains__):
                sizes.add(node)
        return refused

    def fold(self) -> tuple[dict[nn.Module, fx.Node], dict[nn.Module, str]]:
        """Fold batch normalisations with running statistics into the products directly before them, in the net, too.

        Returns:
            The products with a folded normalisation and their calls, and for each normalisation that stays the reason.
        """
        products: dict[nn.Module, fx.Node] = {}
        norms = [m for m in self.net.modules() if isinstance(m, tuple(PRODUCTS))]
        stays = {norm: self._refused(norm, None) for norm in norms}
        for node in list(self.graph.nodes):
            norm = self.layer(node)
            source = self.before(node)
            if norm not in stays or source is None:
                continue
            product = self.layer(source)
            stays[norm] = self._refused(norm, product)
            if stays[norm]:
                continue
            del stays[norm]
            products.pop(product, None)
            products[self._put(source, _folded(product, norm))] = source
            self._put(node, nn.Identity())
            node.replace_all_uses_with(source)
            self.graph.erase_node(node)
        return products, stays

    def _take(self, node: fx.Node, chains: bool) -> None:
        name = str(node.target)
        module = self.net.get_submodule(name)
        inner = [(name, module, False)]
        if chains:
            inner = list(_layers(name, module))
        self.layers |= {name: layer for name, layer, _ in inner}
        if [name] == [path for path, _, _ in inner]:
            return
        x, arguments, named = node.args[0], node.args, node.kwargs
        with self.graph.inserting_before(node):
            for path, _, in_time in inner:
                x = self.graph.create_node("call_module", path, arguments, named)
                x.meta = {**node.meta, "in_time": in_time}
                arguments, named = (x,), {}
        node.replace_all_uses_with(x)  # type: ignore[arg-type]
        self.graph.erase_node(node)

    def _put(self, node: fx.Node, layer: nn.Module) -> nn.Module:
        """Replace the layer that ``node`` calls by ``layer``, wherever a module contains it."""
        old = self.layer(node)
        for parent in self.net.modules():
            for name in [name for name, module in parent._modules.items() if module is old]:
                parent._modules[name] = layer
        self.layers = {n: layer if other is old else other for n, other in self.layers.items()}
        self.replaced = {o: layer if new is old else new for o, new in self.replaced.items()} | {old: layer}
        self.uses[layer] = self.uses[old]
        return layer

    def _seen_leaving(self, name: str, target: str) -> bool:
        """Return whether a container with hooks contains ``name``, but not ``target``."""
        while "." in name:
            name = name.rpartition(".")[0]
            if not target.startswith(f"{name}.") and hooked(self.net.get_submodule(name)):
                return True
        return False

    def _is_in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.layer(node), "inplace", False))
        is_relu = node.target is F.relu and bool(node.kwargs.get("inplace"))
        return node.op.startswith("call") and (node.target in _OUT_OF_PLACE or is_relu)

    def _views_beside(self, source: fx.Node, node: fx.Node) -> set[fx.Node]:
        """Return the other nodes that alias the memory of ``source``."""
        root = source
        while self._is_view(root):
            root = root.args[0]  # type: ignore[assignment]
        found, todo = {root}, [root]
        while todo:
            new = {u for u in todo.pop().users if u is not node and self._is_view(u)} - found
            found |= new
            todo += new
        return found - {source}

    def _is_view(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.layer(node), nn.Flatten) or self._is_in_place(node)
        names = _VIEWS if node.op == "call_method" else _VIEW_FUNCTIONS
        return node.op.startswith("call") and (node.target in names or self._is_in_place(node))

    def _refused(self, norm: Any, product: Any) -> str:
        """Return why ``norm`` cannot be folded into ``product``; empty if it can."""
        if type(norm) not in PRODUCTS:
            return f"it is {type(norm).__module__}'s, not torch.nn's"
        if type(product) not in PRODUCTS[type(norm)]:
            return "it does not directly follow a product that nothing else sees"
        channels = product.out_features if type(product) in LINEAR else product.out_channels
        if channels != norm.num_features:
            return f"it has {norm.num_features} channels, the product before it {channels}"
        if norm.running_mean is None or norm.running_var is None:
            return "it has no running statistics"
        if self.uses[norm] != 1 or self.uses[product] != 1:
            return "it, or the product before it, is used more than once"
        if any(t in self._read for m in (norm, product) for t in (*m.parameters(), *m.buffers())):
            return "forward itself reads a weight of it, or of the product before it"
        if any(hooked(module) for module in (norm, product)):
            return "it, or the product before it, has hooks"
        return ""


def tells_a_size(node: fx.Node, is_size: Callable[[fx.Node], bool]) -> bool:
    """Return whether ``node`` is a size, dtype or device of a tensor, or computed from such alone."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    if node.op != "call_function" or _form(node):
        return node.op == "call_function"
    reads = node.all_input_nodes
    return node.target in _SIZES and bool(reads) and all(map(is_size, reads))


def _form(node: fx.Node) -> bool:
    """Return whether ``node`` reads shape, dtype or device of a tensor."""
    return node.target is getattr and node.args[1] in ("device", "dtype", "ndim", "shape")


def _attribute(net: nn.Module, path: str) -> Any:
    """Return the value at ``path``; None for a constant, which only the trace of ``net`` has."""
    owner, _, name = path.rpartition(".")
    return getattr(net.get_submodule(owner), name, None)


def _layers(name: str, module: nn.Module, in_time: bool = False) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield the layers that run one after the other in ``module``; ``module`` alone, if it is a layer."""
    if isinstance(module, Time):
        yield from _layers(f"{name}.layer", module.layer, True)
    elif isinstance(module, nn.Sequential) and type(module) in _CHAINS and not hooked(module):
        for key, inner in module._modules.items():
            yield from _layers(f"{name}.{key}".lstrip("."), inner, in_time)
    else:
        yield name, module, in_time


def _folded(product: Any, norm: Any) -> nn.Module:
    """Return a copy of a linear layer or convolution with ``norm`` behind it folded into it, computed in float64."""
    tensors = (product.weight, product.bias, norm.running_mean, norm.running_var)
    weight, bias, mean, var = (None if v is None else v.detach().double() for v in tensors)
    gain, shift = (None if v is None else v.detach().double() for v in (norm.weight, norm.bias))
    values = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, gain, shift)  # type: ignore[arg-type]
    result = copy.deepcopy(product)
    result.weight, result.bias = (
        nn.Parameter(value.detach().to(product.weight.dtype), product.weight.requires_grad) for value in values
    )
    return result  # type: ignore[no-any-return]
