"""Reverse-mode differentiation of an expression graph, by the rules of PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .expression import COMPARISONS, LOGICAL, Node, StepGraph, lift, number, plain, where

__all__ = ["computed", "gradients"]


def _below(roots: Iterable[Node]) -> list[Node]:
    """Return the roots and all nodes that they are computed from, operands first."""
    found: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.id not in found:
            found[node.id] = node
            stack += node.args
    return [found[key] for key in sorted(found)]


def computed(roots: Iterable[Node]) -> list[Node]:
    """Return all nodes whose values the values of the roots depend on, operands first."""
    found: dict[int, Node] = {}
    stack = [plain(root) for root in roots]
    while stack:
        node = stack.pop()
        if node.id not in found:
            found[node.id] = node
            stack += map(plain, node.args)
    return [found[key] for key in sorted(found)]


def _zero(node: Node) -> bool:
    return node.op == "constant" and node.value == 0


def _product(grad: Node, factor: Node) -> Node:
    """``grad * factor`` without multiplications by 1 and -1."""
    for a, b in ((grad, factor), (factor, grad)):
        if a.op == "constant" and abs(a.value) == 1:
            return b if a.value == 1 else _negative(b)
    return grad * factor


def _negative(node: Node) -> Node:
    return node.args[0] if node.op == "neg" else -node


def _sum(a: Node | None, b: Node) -> Node:
    if a is None:
        return b
    if b.op == "neg":
        return a - b.args[0]
    return a + b


def _clamp(n: Node, grad: Node) -> list[Node]:
    x, *bounds = n.args
    has_low, has_high = n.value
    low, high = bounds[0], bounds[-1]
    inside: Any = (x >= low) & (x <= high) if has_low and has_high else x >= low if has_low else x <= high
    result = [where(inside, grad, 0.0)]
    if has_low:
        result.append(where((x < low) & (low < high) if has_high else x < low, grad, 0.0))
    if has_high:
        result.append(where((x > high) | (high < low) if has_low else x > high, grad, 0.0))
    return result


def _extremum(n: Node, grad: Node, loses: Node, wins: Node) -> list[Node]:
    a, b = n.args
    even = where(a == b, _product(grad, n.graph.constant(0.5)), grad)  # with NaN both get it
    return [where(loses, 0.0, even), where(wins, 0.0, even)]


def _quotient(n: Node, grad: Node) -> list[Node]:
    b = n.args[1]
    # The order of PyTorch, on which overflows depend.
    return [grad / b, _negative(grad * (n / b)) if b.level else n.graph.constant(0)]


RULES: dict[str, Callable[[Node, Node], list[Node]]] = {
    "add": lambda n, g: [g, g],
    "sub": lambda n, g: [g, _negative(g)],
    "mul": lambda n, g: [_product(g, n.args[1]), _product(g, n.args[0])],
    "div": _quotient,
    "neg": lambda n, g: [_negative(g)],
    "abs": lambda n, g: [where(n.args[0] > 0, g, where(n.args[0] < 0, -g, 0.0))],
    "relu": lambda n, g: [where(n.args[0] <= 0, 0.0, g)],
    "sqrt": lambda n, g: [g / (n + n)],
    "power": lambda n, g: [g * (n.value * n.args[0] ** (n.value - 1))],
    "clamp": _clamp,
    "maximum": lambda n, g: _extremum(n, g, n.args[0] < n.args[1], n.args[0] > n.args[1]),
    "minimum": lambda n, g: _extremum(n, g, n.args[0] > n.args[1], n.args[0] < n.args[1]),
    "where": lambda n, g: [n.graph.constant(0), where(n.args[0], g, 0.0), where(n.args[0], 0.0, g)],
}
FLAT = ("constant", "detach", "fires", "sign", "floor", "ceil", "round", "trunc", *COMPARISONS, *LOGICAL)


def gradients(
    outputs: Iterable[tuple[Node, Node]], graph: StepGraph, leaves: Iterable[Node], names: dict[int, str]
) -> list[Node]:
    """Return the gradients of the leaves from those of ``outputs``; 0 where no gradient flows.

    Args:
        outputs: nodes and their gradients.
        graph: their graph, to which nodes are added.
        leaves: inputs, states or parameters.
        names: of nodes by their id, to which the names of their gradients are added.
    """
    pairs = list(outputs)
    found: dict[int, Node] = {}
    for node, grad in pairs:
        found[node.id] = _sum(found.get(node.id), grad)
    wanted = {leaf.id for leaf in leaves}
    reaches = dict.fromkeys(wanted, True)
    nodes = _below(node for node, _ in pairs)
    for node in nodes:
        reaches.setdefault(node.id, node.op not in FLAT and any(reaches[a.id] for a in node.args))
    for node in reversed(nodes):
        if node.id not in found or not node.args or not reaches[node.id]:
            continue
        for arg, grad in zip(node.args, _local(node, found[node.id])):
            if reaches[arg.id] and not _zero(grad):
                found[arg.id] = _sum(found.get(arg.id), grad)
    for node in nodes:
        result = found.get(node.id)
        if result is not None and result.args and node.id in names:
            names.setdefault(result.id, f"grad_{names[node.id]}")
    return [found.get(leaf.id, graph.constant(0)) for leaf in leaves]


def _local(node: Node, grad: Node) -> list[Node]:
    """Return the gradient of every operand."""
    if node.op != "custom":
        return RULES[node.op](node, grad)
    zero = node.graph.constant(0)
    by_place = [zero if g is None else number(lift(node.graph, g)) for g in node.value.backward(grad)]
    # The first operand is the value; the others are the arguments of the function.
    return [zero, *(by_place[place] for place in node.value.places)]
