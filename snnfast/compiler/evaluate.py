"""Evaluation of an expression of a graph in PyTorch, operation by operation."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnfast.reference.exp import exp_nonpositive, exp_quotient, exponential
from snnfast.reference.functions import mantissa_and_exponent

from .derivative import computed
from .expression import ARITHMETIC, COMPARISONS, NUMBER, Node, plain

__all__ = ["constant_value", "evaluate"]

OPERATIONS: dict[str, Callable[..., Any]] = {
    **{op: getattr(torch, op) for op in ("add", "sub", "mul", "div", "neg", "abs", "sign", "relu", "sqrt", "floor")},
    **{op: getattr(torch, op) for op in ("ceil", "round", "trunc", "minimum", "maximum", "where")},
    **{op: getattr(torch, op) for op in ("lt", "le", "gt", "ge", "eq", "ne")},
    **{op: getattr(torch, f"logical_{op}") for op in ("and", "or", "not")},
    "exponential": exponential,
    "exp_nonpositive": exp_nonpositive,
    "exp_quotient": lambda x, divisor, reciprocal: exp_quotient(x, divisor),
    "mantissa": lambda x: mantissa_and_exponent(x)[0],
    "exponent": lambda x: mantissa_and_exponent(x)[1],
}


def constant_value(node: Node, leaves: dict[int, float]) -> float | None:
    """Return the value of ``node`` if it follows from the values of ``leaves``, by id; None if it depends on others.

    Other leaves are taken to be finite; 0 times a finite value is 0.
    """
    known: dict[int, float | None] = dict(leaves)

    def value(node: Node) -> float | None:
        node = plain(node)
        if node.id not in known:
            known[node.id] = node.value if node.op == "constant" else _constant(node, [value(a) for a in node.args])
        return known[node.id]

    return value(node)


def _constant(node: Node, args: list[float | None]) -> float | None:
    if node.op == "mul" and any(a == 0 and _is_finite(other) for a, other in zip(args, reversed(node.args))):
        return 0.0
    if node.op == "where":
        condition, then, other = args
        return (then if condition else other) if condition is not None else then if then == other else None
    numbers = [a for a in args if a is not None]
    if len(numbers) < len(args) or node.op not in (*ARITHMETIC, *COMPARISONS):
        return None
    function = ARITHMETIC.get(node.op) or getattr(operator, node.op)
    try:
        return float(function(*numbers))
    except ZeroDivisionError:
        return None


def _is_finite(node: Node) -> bool:
    """Return whether ``node`` is finite for all moderate values of its leaves."""
    return not any(
        (below.op == "constant" and not math.isfinite(below.value))
        or below.op in ("sqrt", "exponential", "exp_quotient")
        or (below.op == "div" and (below.args[1].op != "constant" or below.args[1].value == 0))
        for below in computed([node])
    )


def evaluate(node: Node, leaves: dict[int, Tensor]) -> Tensor:
    """Compute the value of ``node``.

    Args:
        node: an expression.
        leaves: values of leaves, or of any other nodes, by id. Those of numbers are in float64, so that they are
            computed as Python computes them, and rounded where they meet a tensor.
    """
    known = dict(leaves)

    def value(node: Node) -> Tensor:
        node = plain(node)
        if node.id not in known:
            dtype = torch.float64 if node.level == NUMBER else node.graph.dtype
            if node.op == "constant":
                known[node.id] = torch.tensor(node.value, dtype=torch.float64)
            else:
                args = [value(a) for a in node.args]
                if node.op == "where":  # else numbers would decide the dtype
                    args[1:] = [a.to(dtype) for a in args[1:]]
                known[node.id] = _operation(node, args)
        return known[node.id]

    return value(node)


def _operation(node: Node, args: list[Tensor]) -> Tensor:
    if node.op == "clamp":
        names = ["min"] * node.value[0] + ["max"] * node.value[1]
        return torch.clamp(args[0], **dict(zip(names, args[1:])))
    if node.op == "power":
        result = args[0]
        for _ in range(node.value - 1):
            result = result * args[0]
        return result
    return OPERATIONS[node.op](*args)  # type: ignore[no-any-return]
