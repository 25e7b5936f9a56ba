"""Expression graph of a step function, and the rules that build it from PyTorch's elementwise functions."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["CONVERSIONS", "ELEMENTWISE", "Node", "StepGraph", "TraceError", "plain", "where"]

# Level of an expression: it depends on numbers that all neurons share, parameters of a neuron, or values of a step.
NUMBER, NEURON, STEP = range(3)

Operand = Any  # a node or a number

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
LOGICAL = ("and", "or", "not")
KINDS = ("logical", "bitwise")  # of functions of conditions
CONVERSIONS = (
    *("to", "type_as", "bool", "long", "float", "double"),
    *("clone", "contiguous", "view_as", "expand_as", "sum_to_size"),
)
ARITHMETIC: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
}


class TraceError(TypeError):
    """A step function cannot be compiled; the message has the line and the way out."""


_INTERNAL = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))


def user_line() -> str:
    """Return the current line of the user's code: ``file.py:12 (`v = ...`)``."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_INTERNAL):
        frame = frame.f_back
    path, line = frame.f_code.co_filename, frame.f_lineno
    return f"{Path(path).name}:{line} (`{linecache.getline(path, line).strip()}`)"


class Node:
    """One operation of a graph; the same operation on the same operands is the same node.

    Attributes:
        graph: its graph.
        op: the operation, or the kind of a leaf.
        args: its operands.
        value: a constant's value, a leaf's name or index.
        id: its index in the graph; operands come before.
        level: NUMBER, NEURON or STEP.
        is_condition: whether its value is a bool instead of a number.
    """

    __slots__ = ("args", "graph", "id", "is_condition", "level", "op", "value")

    def __init__(self, graph: StepGraph, op: str, args: tuple[Node, ...], value: Any, level: int | None) -> None:
        self.graph, self.op, self.args, self.value = graph, op, args, value
        self.id = len(graph.nodes)
        self.level: int = max((a.level for a in args), default=NUMBER) if level is None else level
        self.is_condition = op in COMPARISONS or op in LOGICAL or op == "fires"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Node:  # type: ignore[override]
        return compare("eq", self, other)

    def __ne__(self, other: object) -> Node:  # type: ignore[override]
        return compare("ne", self, other)

    def __lt__(self, other: Operand) -> Node:
        return compare("lt", self, other)

    def __le__(self, other: Operand) -> Node:
        return compare("le", self, other)

    def __gt__(self, other: Operand) -> Node:
        return compare("gt", self, other)

    def __ge__(self, other: Operand) -> Node:
        return compare("ge", self, other)

    def __add__(self, other: Operand) -> Node:
        return call("add", self, other)

    def __sub__(self, other: Operand) -> Node:
        return call("sub", self, other)

    def __mul__(self, other: Operand) -> Node:
        return call("mul", self, other)

    def __rmul__(self, other: Operand) -> Node:
        return call("mul", other, self)

    def __truediv__(self, other: Operand) -> Node:
        return call("div", self, other)

    def __pow__(self, exponent: float) -> Node:
        return _power(self, exponent)

    def __neg__(self) -> Node:
        return call("neg", self)

    def __and__(self, other: Node) -> Node:
        return _logical("and", self, other)

    def __or__(self, other: Node) -> Node:
        return _logical("or", self, other)

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.args)) if self.args else repr(self.value)
        return f"{self.op}({inner})"


class StepGraph:
    """The nodes of one traced step.

    Attributes:
        dtype: the dtype of its values, torch.float32 or torch.float64.
        nodes: all nodes, operands first.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.nodes: list[Node] = []
        self._known: dict[Any, Node] = {}

    def node(self, op: str, *args: Node, value: Any = None, level: int | None = None) -> Node:
        """Return the node of an operation, a new one if there is none; operations of constants are computed."""
        if op in ARITHMETIC and all(a.op == "constant" for a in args):
            try:
                return self.constant(ARITHMETIC[op](*(a.value for a in args)))
            except ZeroDivisionError:
                pass
        key = (op, tuple(a.id for a in args), repr(value))
        if key not in self._known:
            created = Node(self, op, args, value, level)
            self.nodes.append(created)
            self._known[key] = created
        return self._known[key]

    def leaf(self, kind: str, value: Any, level: int = STEP) -> Node:
        """Return the node of an input, a state, a parameter or a gradient."""
        return self.node(kind, value=value, level=level)

    def constant(self, value: float) -> Node:
        """Return the node of a constant of the step."""
        return self.node("constant", value=float(value))


def _graph(args: Sequence[Any]) -> StepGraph:
    return next(a.graph for a in args if isinstance(a, Node))


def lift(graph: StepGraph, value: Any) -> Node:
    """Return the node of a number; nodes are returned unchanged."""
    if isinstance(value, Node):
        return value
    if isinstance(value, (bool, int, float)):
        return graph.constant(value)
    raise TraceError(
        f"{user_line()}: the step calculates with a {type(value).__name__}; numbers and its own arguments can be "
        "compiled"
    )


def number(value: Node) -> Node:
    """Convert a condition to 1 or 0; other nodes are returned unchanged."""
    if not value.is_condition:
        return value
    return where(value, 1.0, 0.0)


def call(op: str, *args: Any) -> Node:
    """Return the node of an operation on numbers."""
    graph = _graph(args)
    return graph.node(op, *(number(lift(graph, a)) for a in args))


def plain(node: Node) -> Node:
    """Return the node that computes the value, below ``detach`` and autograd functions, which change gradients only."""
    while node.op in ("custom", "detach") or _same_either_way(node):
        node = node.args[-1 if node.op == "where" else 0]
    return node


def _same_either_way(node: Node) -> bool:
    return node.op == "where" and plain(node.args[1]) is plain(node.args[2])


def _is_one_or_zero(node: Node) -> bool:
    return (
        node.op == "where"
        and [a.op for a in node.args[1:]] == ["constant"] * 2
        and ([a.value for a in node.args[1:]] == [1.0, 0.0])
    )


def compare(op: str, a: Any, b: Any) -> Node:
    """Return the condition of a comparison; that of spikes with 0 or 1 is the condition of the spike."""
    graph = _graph((a, b))
    left, right = number(lift(graph, a)), number(lift(graph, b))
    spikes = plain(left)
    on_spikes = op in ("eq", "ne") and _is_one_or_zero(spikes)
    if on_spikes and right.op == "constant" and right.value in (0.0, 1.0):
        same = (right.value == 1.0) == (op == "eq")
        return spikes.args[0] if same else _not(spikes.args[0])
    return graph.node(op, left, right)


def _condition(value: Any) -> Node:
    if isinstance(value, Node) and value.is_condition:
        return value
    raise TraceError(f"{user_line()}: a condition is expected, such as v > 0, got {type(value).__name__}")


def _not(a: Any) -> Node:
    inner = _condition(a)
    return inner.args[0] if inner.op == "not" else inner.graph.node("not", inner)


def _logical(op: str, a: Any, b: Any) -> Node:
    left, right = _condition(a), _condition(b)
    return left.graph.node(op, left, right)


def where(condition: Any, a: Any, b: Any) -> Node:
    """``a`` where ``condition``, else ``b``."""
    chosen = _condition(condition)
    graph = chosen.graph
    if chosen.op == "not":
        chosen, a, b = chosen.args[0], b, a
    yes, no = (number(lift(graph, v)) for v in (a, b))
    # The same condition decides inner choices, too.
    yes = yes.args[1] if yes.op == "where" and yes.args[0] is chosen else yes
    no = no.args[2] if no.op == "where" and no.args[0] is chosen else no
    return yes if yes is no else graph.node("where", chosen, yes, no)


def _clamp(x: Node, min: Any = None, max: Any = None) -> Node:
    low, high = min, max
    if low is None and high is None:
        raise TraceError(f"{user_line()}: clamp needs min or max")
    graph = _graph((x, low, high))
    x = number(lift(graph, x))
    args = [x] + [lift(graph, bound) for bound in (low, high) if bound is not None]
    return graph.node("clamp", *args, value=(low is not None, high is not None))


def _power(base: Any, exponent: Any) -> Node:
    graph = _graph((base, exponent))
    exponents: dict[float, str] = {2: "square", 0.5: "sqrt", 1: "clone", -1: "reciprocal"}
    if not isinstance(exponent, (int, float)):
        exponent = "a value of the step" if isinstance(exponent, Node) else type(exponent).__name__
    elif exponent in exponents:
        return ELEMENTWISE[exponents[exponent]](base)
    if exponent in range(3, 9):
        return graph.node("power", number(base), value=int(exponent))
    raise TraceError(
        f"{user_line()}: a power is compiled for the exponents -1, 0.5 and 1 to 8, got {exponent}; write "
        "torch.exp(b * torch.log(a))"
    )


def _same(x: Node, *args: Any, **kwargs: Any) -> Node:
    return x


def _detach(x: Node) -> Node:
    return x if x.is_condition else call("detach", x)


def _choose(flag: Node, a: Operand, b: Operand) -> Node:
    """``choose`` of :mod:`snnfast.reference.neuron`."""
    return where(flag, a, b)


def _full_like(x: Node, value: float) -> Node:
    return x.graph.constant(value)


def _quotient(a: Any, b: Any, rounding_mode: str | None = None) -> Node:
    if rounding_mode == "floor":
        raise TraceError(f'{user_line()}: rounding_mode="floor" cannot be compiled; write torch.floor(a / b)')
    quotient = call("div", a, b)
    return quotient if rounding_mode is None else call("trunc", quotient)


def _unary(op: str) -> Callable[..., Node]:
    return lambda x: call(op, x)


def _binary(op: str) -> Callable[..., Node]:
    return lambda a, b: call(op, a, b)


# By name in PyTorch; a name with _ at its end is the same in place.
ELEMENTWISE: dict[str, Callable[..., Node]] = {
    **{op: _binary(op) for op in ("add", "sub", "mul", "minimum", "maximum")},
    **{"multiply": _binary("mul"), "subtract": _binary("sub"), "rsub": lambda a, b: call("sub", b, a)},
    **{name: _quotient for name in ("div", "divide", "true_divide")},
    **{op: _unary(op) for op in ("neg", "abs", "sign", "sqrt", "floor", "ceil", "round", "trunc")},
    **{"negative": _unary("neg"), "absolute": _unary("abs"), "positive": _same, "detach": _detach},
    "relu": lambda x, inplace=False: call("relu", x),
    **{op: lambda a, b, op=op: compare(op, a, b) for op in COMPARISONS},
    **{f"{kind}_{op}": lambda a, b, op=op: _logical(op, a, b) for kind in KINDS for op in ("and", "or")},
    **{f"{kind}_not": _not for kind in KINDS},
    **{f"{kind}_xor": lambda a, b: compare("ne", _condition(a), _condition(b)) for kind in KINDS},
    "where": where,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda x, min: _clamp(x, min=min),
    "clamp_max": lambda x, max: _clamp(x, max=max),
    "pow": _power,
    "square": lambda x: call("mul", x, x),
    "reciprocal": lambda x: call("div", 1.0, x),
    "rsqrt": lambda x: call("div", 1.0, call("sqrt", x)),
    "isnan": lambda x: compare("ne", x, x),
    **dict.fromkeys(CONVERSIONS, _same),
    "ones_like": lambda x: _full_like(x, 1.0),
    "zeros_like": lambda x: _full_like(x, 0.0),
    "full_like": _full_like,
    "choose": _choose,
}
