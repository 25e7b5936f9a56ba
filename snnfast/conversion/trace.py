"""From a ReLU network to its graph: batch norms folded, every node known by what it becomes, or refused by name."""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .qcfs import QCFS

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
# Homogeneous: the output scales with the input, channel by channel.
HOMOGENEOUS = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)
MAX_POOL_FUNCTIONS = {F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d}
RELU_FUNCTIONS = {F.relu, F.relu_, torch.relu, torch.relu_}
DROPOUT_FUNCTIONS = {F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout, torch.dropout}
HOMOGENEOUS_FUNCTIONS = {
    F.avg_pool1d,
    F.avg_pool2d,
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    torch.flatten,
}
# Affine too, but of several inputs, or with another order of the channels.
AFFINE_FUNCTIONS = {
    operator.add,
    operator.sub,
    operator.neg,
    operator.getitem,
    getattr,
    torch.add,
    torch.sub,
    torch.cat,
    torch.concat,
    torch.mean,
    torch.reshape,
    F.linear,
    F.conv1d,
    F.conv2d,
}
OUT_OF_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub}
SCALINGS = {operator.mul, operator.truediv, torch.mul, torch.div}
AFFINE_METHODS = {"add", "sub", "mean", "view", "reshape", "size", "dim", "contiguous", "flatten"}

NEGATIVE = "it passes or makes negative values, which no rate can be; train with ReLU"
CLIPPED = (
    "it clips from above, which a firing rate does already, at the threshold; train with ReLU, or "
    "fine-tune with method='qcfs', which learns where to clip"
)
SATURATING = (
    "no rate follows its curve; where it is the last layer, leave it off: the largest score stays "
    "the largest"
)
STATISTIC = "it divides by a statistic of every sample, which spikes do not have; use batch norm"
UNKNOWN = (
    "it has no spiking form here; known are Linear, Conv1d, Conv2d, BatchNorm, ReLU, Dropout, "
    "average and max pooling, Flatten, additions and concatenations"
)
REASONS: dict[str, str] = {
    **dict.fromkeys(
        [
            "leakyrelu",
            "prelu",
            "rrelu",
            "elu",
            "selu",
            "celu",
            "gelu",
            "silu",
            "mish",
            "hardswish",
            "softplus",
        ],
        NEGATIVE,
    ),
    **dict.fromkeys(
        ["relu6", "hardtanh", "threshold", "clamp", "clip", "clampmin", "minimum", "maximum"],
        CLIPPED,
    ),
    **dict.fromkeys(
        [
            "sigmoid",
            "hardsigmoid",
            "tanh",
            "softmax",
            "logsoftmax",
            "softmin",
            "logsigmoid",
            "softsign",
        ],
        SATURATING,
    ),
    **dict.fromkeys(
        ["layernorm", "groupnorm", "instancenorm1d", "instancenorm2d", "rmsnorm"], STATISTIC
    ),
}


@dataclass(frozen=True)
class Traced:
    """A network as a graph.

    Attributes:
        module: the modules that the graph calls, batch norms folded, dropouts left out.
        kinds: by node name "input", "static" (an attribute of the module), "affine", "spiking", "max_pool" or "output".
        homogeneous: the names of nodes that let a factor of their input through.
        products: the names of the nodes that are a Linear or a convolution.
        places: by node name where the node stands in the model, for people.
        thresholds: thresholds that the network has learned (QCFS), by node name.
    """

    module: fx.GraphModule
    kinds: dict[str, str]
    homogeneous: frozenset[str]
    products: frozenset[str]
    places: dict[str, str]
    thresholds: dict[str, torch.Tensor]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        return isinstance(m, QCFS) or super().is_leaf_module(m, name)


def trace(model: nn.Module, *, max_pool: str = "rate") -> Traced:
    """Traces ``model`` in evaluation mode; the model itself is left alone.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: it cannot be traced, or holds what cannot be converted; all of it is named.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert: model must be a torch.nn.Module, got {type(model).__name__}")
    model = copy.deepcopy(model).eval()
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:
        raise ValueError(
            f"convert: {type(model).__name__} cannot be traced by torch.fx ({error}); its forward must not branch "
            "on the values of tensors"
        ) from error
    module = fx.GraphModule(model, graph)
    _leave_out_dropouts(module)
    _fold_batch_norms(module)
    module.graph.eliminate_dead_code()
    return _classify(module, max_pool)


def _leave_out_dropouts(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        is_module = node.op == "call_module" and isinstance(
            _of(module, node), (*DROPOUTS, nn.Identity)
        )
        if is_module or (node.op == "call_function" and node.target in DROPOUT_FUNCTIONS):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.op == "call_function" and node.target in OUT_OF_PLACE:
            # In place it would change spikes that others still read.
            node.target = OUT_OF_PLACE[node.target]


def _fold_batch_norms(module: fx.GraphModule) -> None:
    nodes = list(module.graph.nodes)
    calls: dict[Any, int] = {}
    for node in nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    for node in nodes:
        if node.op != "call_module" or not isinstance(norm := _of(module, node), BATCH_NORMS):
            continue
        before = node.args[0]
        if norm.running_mean is None or before.op != "call_module" or len(before.users) > 1:
            continue
        layer = _of(module, before)
        if not isinstance(layer, PRODUCTS) or calls[before.target] > 1:
            continue
        fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        _replace(module, before.target, fuse(layer, norm))  # type: ignore[type-var]
        node.replace_all_uses_with(before)
        module.graph.erase_node(node)


def _classify(module: fx.GraphModule, max_pool: str) -> Traced:
    kinds: dict[str, str] = {}
    places: dict[str, str] = {}
    homogeneous, products, thresholds = set(), set(), {}
    refused = []
    for node in module.graph.nodes:
        name, places[node.name] = node.name, _place(module, node)
        kind, why = _kind(module, node)
        if kind == "max_pool" and max_pool == "refuse":
            kind, why = "", "max_pool='refuse' was given; use average pooling, or max_pool='rate'"
        if kind in ("spiking", "max_pool") and not node.args:
            node.args = (node.kwargs["input"],)
            node.kwargs = {k: v for k, v in node.kwargs.items() if k != "input"}
        if not kind:
            refused.append(f"{places[name]}: {why}")
        kinds[name] = kind
        if node.op == "call_module":
            layer = _of(module, node)
            if isinstance(layer, PRODUCTS):
                products.add(name)
            if isinstance(layer, (*HOMOGENEOUS, *MAX_POOLS)):
                homogeneous.add(name)
            if isinstance(layer, QCFS):
                thresholds[name] = layer.threshold.detach().clone()
            if kind == "spiking":
                # The neurons stand beside the model's modules, one entry a call: a ReLU may be called twice.
                node.op, node.target = "call_function", torch.relu
        elif (
            node.op == "call_function" and node.target in HOMOGENEOUS_FUNCTIONS | MAX_POOL_FUNCTIONS
        ):
            homogeneous.add(name)
    if refused:
        raise ValueError("convert: cannot be converted:\n  " + "\n  ".join(refused))
    values = list(kinds.values())
    if values.count("input") != 1:
        raise ValueError(f"convert: the model must take one tensor, got {values.count('input')}")
    if "spiking" not in values:
        raise ValueError("convert: the model has no ReLU, so there is nothing that could spike")
    module.delete_all_unused_submodules()
    output = next(node for node in module.graph.nodes if node.op == "output")
    if not isinstance(output.args[0], fx.Node):
        raise ValueError("convert: the model must return one tensor, not several")
    return Traced(module, kinds, frozenset(homogeneous), frozenset(products), places, thresholds)


def _kind(module: fx.GraphModule, node: fx.Node) -> tuple[str, str]:
    """What a node becomes, or an empty string and why it cannot be converted."""
    if node.op == "placeholder":
        return "input", ""
    if node.op == "output":
        return "output", ""
    if node.op == "get_attr":
        return "static", ""
    if node.op == "call_module":
        return _kind_of_module(_of(module, node))
    if node.op == "call_method":
        name = str(node.target)
        if name in ("relu", "relu_"):
            return "spiking", ""
        if name in AFFINE_METHODS:
            return "affine", ""
        return "", REASONS.get(name.replace("_", ""), UNKNOWN)
    if node.target in RELU_FUNCTIONS:
        return "spiking", ""
    if node.target in MAX_POOL_FUNCTIONS:
        if node.kwargs.get("return_indices"):
            return "", "it returns indices, which spikes do not have"
        return "max_pool", ""
    if node.target in HOMOGENEOUS_FUNCTIONS or node.target in AFFINE_FUNCTIONS:
        if node.target in (F.linear, F.conv1d, F.conv2d) and _is_product_of_two(node):
            return "", "it multiplies two signals; one of the factors must be a constant"
        return "affine", ""
    if node.target in SCALINGS:
        if _is_product_of_two(node) or (
            node.target in (operator.truediv, torch.div) and isinstance(node.args[1], fx.Node)
        ):
            return "", "it multiplies two signals; one of the factors must be a constant"
        return "affine", ""
    name = getattr(node.target, "__name__", str(node.target))
    return "", REASONS.get(name.replace("_", ""), UNKNOWN)


def _kind_of_module(layer: nn.Module) -> tuple[str, str]:
    if isinstance(layer, (nn.ReLU, QCFS)) and not isinstance(layer, nn.ReLU6):
        return "spiking", ""
    if isinstance(layer, MAX_POOLS):
        if layer.return_indices:
            return "", "it returns indices, which spikes do not have"
        return "max_pool", ""
    if isinstance(layer, BATCH_NORMS):
        if layer.running_mean is None:
            return "", "it has no running statistics, so its result depends on the batch"
        return "affine", ""
    if isinstance(layer, (*PRODUCTS, *HOMOGENEOUS)):
        return "affine", ""
    return "", REASONS.get(type(layer).__name__.lower(), UNKNOWN)


def _is_product_of_two(node: fx.Node) -> bool:
    signals = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, fx.Node)]
    return sum(a.op != "get_attr" for a in signals) > 1


def _place(module: fx.GraphModule, node: fx.Node) -> str:
    """Where a node stands, as a reader of the model would say it."""
    if node.op == "call_module":
        return f"{node.target} ({type(_of(module, node)).__name__})"
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    where = stack[-1][0] if stack and isinstance(stack[-1], tuple) else ""
    name = getattr(node.target, "__name__", str(node.target))
    return f"{name} in {where or 'forward'}"


def _of(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    return module.get_submodule(str(node.target))


def _replace(module: fx.GraphModule, path: Any, layer: nn.Module) -> None:
    parent, _, name = str(path).rpartition(".")
    setattr(module.get_submodule(parent), name, layer)
