"""Kinds of the nodes of a traced network, and reasons why a node cannot be converted."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812

from snnfast.nn.graph import DROPOUT_FUNCTIONS, tells_a_size

from .qcfs import QCFS

# Compared by exact type: subclasses may do anything.
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
RELUS = (nn.ReLU, QCFS)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)
POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
# Homogeneous: the output scales with the input, channel by channel.
HOMOGENEOUS = (*POOLS, nn.Flatten, nn.Identity)
MAX_POOL_FUNCTIONS = {F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d}
RELU_FUNCTIONS = {F.relu, F.relu_, torch.relu, torch.relu_}
POOL_FUNCTIONS = {F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d}
HOMOGENEOUS_FUNCTIONS = POOL_FUNCTIONS | {torch.flatten}
PRODUCT_FUNCTIONS = {F.linear, F.conv1d, F.conv2d}
ADDITIONS = {operator.add, operator.sub, torch.add, torch.sub, torch.subtract}
QUOTIENTS = {operator.truediv, torch.div, torch.divide, torch.true_divide}
SCALINGS = {operator.mul, torch.mul, torch.multiply} | QUOTIENTS
CONCATENATIONS = {torch.cat, torch.concat, torch.concatenate}
OTHER_LINEAR = {operator.neg, operator.getitem, torch.mean, torch.reshape, torch.Tensor.contiguous}
# Deterministic functions whose names are not those of kernels of PyTorch.
COMPOSED = {F.normalize, getattr}
METHODS: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "mean": torch.mean,
    "view": torch.reshape,
    "reshape": torch.reshape,
    "flatten": torch.flatten,
    "contiguous": torch.Tensor.contiguous,
    "relu": torch.relu,
}
_SLIDING: tuple[Any, ...] = (
    *PRODUCTS[1:],
    F.conv1d,
    F.conv2d,
    *POOLS,
    *POOL_FUNCTIONS,
    *MAX_POOLS,
    *MAX_POOL_FUNCTIONS,
)
# Dimensions of the input of a convolution or pool, with the batch.
DIMS: dict[Any, int] = {layer: 3 if "1d" in layer.__name__ else 4 for layer in _SLIDING}

TWO_SIGNALS = "it multiplies two signals; one of the factors must be a constant"
MIXES = "it mixes the images of a batch; the first dimension must stay whole"
INDICES = "it returns indices, which spikes do not have"
ROUNDS = "it rounds, which is not linear; divide without rounding_mode"
RANDOM = "it draws at random in evaluation as well; give training=self.training"
VARIES = "it may give another result at every run, or change what it reads, so that no weights can be computed with it"
WRITES = "it writes into a tensor that is given to it; take its result"
NEGATIVE = "it passes or makes negative values, which no rate can be; train with ReLU"
CLIPPED = (
    "it clips from above, which a firing rate does already, at the threshold; train with ReLU, or "
    "fine-tune with method='qcfs', which learns where to clip"
)
BELOW = "it clips from below; where that is at 0, write torch.relu"
SATURATING = "no rate follows its curve; where it is the last layer, leave it off: the largest score stays the largest"
STATISTIC = "it divides by a statistic of every sample, which spikes do not have; use batch norm"
UNKNOWN = (
    "it has no spiking form here; known are Linear, Conv1d, Conv2d, BatchNorm, ReLU, Dropout, "
    "average and max pooling, Flatten, additions and concatenations"
)
REASONS = {
    name: reason
    for reason, names in {
        NEGATIVE: "leakyrelu prelu rrelu elu selu celu gelu silu mish hardswish softplus",
        CLIPPED: "relu6 hardtanh clamp clip clampmax minimum",
        BELOW: "threshold clampmin maximum",
        SATURATING: "sigmoid hardsigmoid tanh softmax logsoftmax softmin logsigmoid softsign",
        STATISTIC: "layernorm groupnorm instancenorm1d instancenorm2d rmsnorm",
    }.items()
    for name in names.split()
}


def kind_of(node: fx.Node, layer: nn.Module | None, kinds: Mapping[fx.Node, str]) -> tuple[str, str]:
    """Return the kind of ``node``, see :class:`Node`, and the reason why it cannot be converted, or an empty string.

    A node that cannot be converted has no kind, unless it reads no signal: then it is "static", for its readers.

    Args:
        node: the node, with positional arguments.
        layer: the module that it calls, if any.
        kinds: kinds of the nodes before it.
    """
    if node.op in ("placeholder", "get_attr"):
        return ("input" if node.op == "placeholder" else "static"), ""
    if tells_a_size(node, lambda source: kinds[source] == "size"):
        return "size", ""
    reads: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), reads.append)  # a node that is read twice counts twice
    signals = [i for i in reads if kinds[i] not in ("static", "size")]
    kind, why = _kind_of_module(layer) if layer is not None else _kind_of_function(node, signals)
    if reads and not signals:
        if why == UNKNOWN:
            why = "" if layer is None and _is_fixed(node) else VARIES
        return "static", why if why in (RANDOM, WRITES, VARIES) else ""
    if why == MIXES and not all(kinds[i] for i in reads):
        return "linear", ""  # the indexed node is refused itself
    return kind, why


def _is_fixed(node: fx.Node) -> bool:
    """Return whether a function is deterministic and does not change its arguments, by PyTorch's tags."""
    module = getattr(node.target, "__module__", None) or "torch"
    if node.target in COMPOSED or module == "_operator":
        return True
    name = str(getattr(node.target, "__name__", node.target))
    kernel = getattr(torch.ops.aten, name, None)
    is_known = node.op == "call_method" or (kernel is not None and module.startswith("torch"))
    if name.endswith("_") or not is_known:
        return False
    overloads = [] if kernel is None else [getattr(kernel, o) for o in kernel.overloads()]
    return not any(torch.Tag.nondeterministic_seeded in overload.tags for overload in overloads)


def function_of(node: fx.Node) -> Any:
    """Return the function that ``node`` calls, for a method the equivalent function, or None."""
    return METHODS.get(str(node.target)) if node.op == "call_method" else node.target


def flattens_all(node: fx.Node, layer: nn.Module | None) -> bool | None:
    """Return whether all dimensions but the first become one; None if ``node`` is no Flatten."""
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if node.op != "call_function" or node.target is not torch.flatten:
        return None
    dims = dict(zip(("start_dim", "end_dim"), node.args[1:])) | node.kwargs
    return (dims.get("start_dim", 0), dims.get("end_dim", -1)) == (1, -1)


def _kind_of_module(layer: nn.Module) -> tuple[str, str]:
    kind = type(layer)
    if kind in RELUS:
        return "spiking", ""
    if kind in MAX_POOLS:
        return ("", INDICES) if layer.return_indices else ("max_pool", "")
    if kind in BATCH_NORMS:
        if layer.running_mean is None:
            return "", "it has no running statistics, so its result depends on the batch"
        return "affine", ""
    if kind in PRODUCTS:
        return "linear" if layer.bias is None else "affine", ""
    if kind in HOMOGENEOUS:
        return "linear", ""
    return "", REASONS.get(kind.__name__.lower(), UNKNOWN)


def _kind_of_function(node: fx.Node, signals: list[fx.Node]) -> tuple[str, str]:
    function, others = function_of(node), node.args[1:]
    if node.kwargs.get("out") is not None:
        return "", WRITES
    if function in DROPOUT_FUNCTIONS or node.kwargs.get("training"):
        return "", RANDOM
    if function in RELU_FUNCTIONS:
        return "spiking", ""
    if function in MAX_POOL_FUNCTIONS:
        return ("", INDICES) if node.kwargs.get("return_indices") else ("max_pool", "")
    if function in PRODUCT_FUNCTIONS:
        if signals != [node.args[0]]:
            return "", TWO_SIGNALS
        bias = others[1] if len(others) > 1 else node.kwargs.get("bias")
        return "linear" if bias is None else "affine", ""
    if function in SCALINGS:
        if len(signals) > 1 or (function in QUOTIENTS and others[0] in signals):
            return "", TWO_SIGNALS
        return ("", ROUNDS) if node.kwargs.get("rounding_mode") else ("linear", "")
    if function in ADDITIONS:
        return "linear" if all(a in signals for a in node.args[:2]) else "affine", ""
    if function in CONCATENATIONS:
        return "linear" if set(signals) == set(node.all_input_nodes) else "affine", ""
    if function is operator.getitem:
        if signals != [node.args[0]]:
            return "", "it chooses by a signal, which spikes cannot"
        first = others[0][0] if isinstance(others[0], tuple) else others[0]
        if first is not Ellipsis and not (isinstance(first, slice) and first == slice(None)):
            return "", MIXES
    if function is torch.mean:
        dim = others[0] if others else node.kwargs.get("dim")
        if dim in (None, 0) or (isinstance(dim, (tuple, list)) and 0 in dim):
            return "", MIXES
    if function in HOMOGENEOUS_FUNCTIONS or function in OTHER_LINEAR:
        return "linear", ""
    name = str(getattr(node.target, "__name__", node.target)).replace("_", "")
    if name in ("clamp", "clip") and not (others[1:] or "max" in node.kwargs):
        name = "clampmin"
    return "", REASONS.get(name, UNKNOWN)
