"""Functions and layers allowed in a loop over time steps: their result for all steps equals that of single steps."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from snnfast.nn.time import DROPOUTS, SAMPLEWISE

__all__ = [
    *("ADDITIONS", "COMPUTED", "JOINED", "LAYERS", "MAKERS", "NORMS", "POOLS", "REDUCED", "RETURNED", "SET", "ZEROS"),
    *("is_elementwise", "is_fresh"),
]

ADDITIONS = (operator.add, torch.add)
ZEROS = ("new_zeros", torch.zeros, torch.zeros_like)
# Functions that make a tensor, and those that set elements of one.
MAKERS = (*ZEROS, "new_empty", "new_full", torch.empty, torch.ones, torch.full, torch.empty_like)
SET = ("__setitem__", operator.setitem)
POOLS: dict[Any, type[nn.Module]] = {
    torch.max_pool2d: nn.MaxPool2d,
    functional.max_pool2d: nn.MaxPool2d,
    functional.avg_pool2d: nn.AvgPool2d,
}
# Functions that join the branches of a step, and those that reduce dimensions of it.
JOINED = (torch.cat, torch.concat, torch.concatenate, torch.stack)
REDUCED = ("sum", "mean")
# Compared by exact type: subclasses may do something else.
LAYERS = (
    *SAMPLEWISE,
    *DROPOUTS,
    *(nn.PReLU, nn.SELU, nn.CELU, nn.ReLU6, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid),
)

# These take statistics of each step while they train.
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# Elementwise functions without side effects, which exist as torch.* and as methods.
COMPUTED = frozenset({
    *("abs", "add", "sub", "mul", "div", "true_divide", "fmod", "remainder", "neg", "reciprocal"),
    *("pow", "square", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh"),
    *("sigmoid", "relu", "erf", "sign", "floor", "ceil", "round", "clamp", "clip", "where"),
    *("maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"),
    *("logical_and", "logical_or", "logical_not"),
})  # fmt: skip
# These may return their input.
RETURNED = frozenset({
    *("float", "double", "half", "bfloat16", "bool", "int", "long", "to", "type_as", "contiguous"),
})  # fmt: skip
_METHODS = COMPUTED | RETURNED | {"detach", "clone"}
_OPERATORS = frozenset({
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.mod, operator.pow),
    *(operator.neg, operator.abs, operator.eq, operator.ne, operator.lt, operator.le),
    *(operator.gt, operator.ge, operator.and_, operator.or_, operator.invert),
})  # fmt: skip
_FUNCTIONS = _OPERATORS | {
    *(getattr(torch, name) for name in COMPUTED),
    *(torch.clone, torch.detach),
    *(functional.relu, functional.relu6, functional.leaky_relu, functional.gelu, functional.elu),
    *(functional.silu, functional.softplus, functional.selu, functional.celu, functional.mish),
    *(functional.hardswish, functional.hardsigmoid, functional.hardtanh, functional.logsigmoid),
    *(functional.softsign, functional.sigmoid, functional.tanh),
}
# A memory format depends on the number of dimensions.
_REFUSED_KEYWORDS = ("memory_format", "out", "inplace")


def is_elementwise(op: str, target: Any, keywords: dict[str, Any]) -> bool:
    """Return whether a node calls an elementwise function."""
    if any(keywords.get(name) for name in _REFUSED_KEYWORDS):
        return False
    return target in (_METHODS if op == "call_method" else _FUNCTIONS)


def is_fresh(op: str, target: Any, layer: nn.Module | None) -> bool:
    """Return whether a node creates a tensor that is no view, so that changing it in place changes nothing else."""
    if layer is not None:
        views = (nn.Identity, nn.Flatten, *DROPOUTS)
        return type(layer) in LAYERS and type(layer) not in views and not getattr(layer, "inplace", False)
    return target in (COMPUTED if op == "call_method" else _FUNCTIONS - {torch.detach})
