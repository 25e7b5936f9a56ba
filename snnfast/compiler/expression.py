"""Expression graph of a step function: nodes that record PyTorch's elementwise functions."""

from __future__ import annotations

import functools
import linecache
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from . import functions

__all__ = ["ELEMENTWISE", "Graph", "Node", "TraceError", "plain", "where"]

# Level of an expression: it depends on numbers that all neurons share, parameters of a neuron, or values of a step.
NUMBER, NEURON, STEP = range(3)

Value = Any  # a node or a number

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
LOGICAL = ("and", "or", "not")
ARITHMETIC: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
}


class TraceError(TypeError):
    """A step function cannot be compiled; the message has the line and the way out."""


class TraceAttributeError(TraceError, AttributeError):
    """:class:`TraceError` for an attribute that a traced value lacks."""


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

    def __init__(self, graph: Graph, op: str, args: tuple[Node, ...], value: Any, level: int | None) -> None:
        self.graph, self.op, self.args, self.value = graph, op, args, value
        self.id = len(graph.nodes)
        self.level: int = max((a.level for a in args), default=NUMBER) if level is None else level
        self.is_condition = op in COMPARISONS or op in LOGICAL or op == "fires"

    # To the code of a step a node is a tensor with one element per neuron.
    shape = torch.Size(())
    is_floating_point = True
    is_cpu = True

    @property
    def dtype(self) -> torch.dtype:
        """torch.bool for a condition, torch.float64 for an expression of numbers, else the dtype of the states."""
        if self.is_condition:
            return torch.bool
        return torch.float64 if self.level == NUMBER else self.graph.dtype

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", str(function))
        if name not in ELEMENTWISE:
            raise TraceError(
                f"{user_line()}: torch.{name} cannot be compiled in a step function. What can: {', '.join(_PUBLIC)}; "
                "write it with these, take it out of the step, or give compile=False, which runs plain PyTorch"
            )
        return ELEMENTWISE[name](*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name in ELEMENTWISE:
            return functools.partial(ELEMENTWISE[name], self)
        if name.startswith("__"):
            raise AttributeError(name)
        raise TraceAttributeError(
            f"{user_line()}: .{name} cannot be compiled in a step function, whose values are numbers of one neuron and "
            f"step. What can: {', '.join(_PUBLIC)}; compile=False runs plain PyTorch"
        )

    def __bool__(self) -> bool:
        raise TraceError(
            f"{user_line()}: the step branches on a value, which differs from neuron to neuron; use "
            "torch.where(condition, a, b), or give compile=False, which runs plain PyTorch"
        )

    def __float__(self) -> float:
        raise TraceError(
            f"{user_line()}: the step takes a value out of PyTorch, which differs from neuron to neuron; use torch "
            "functions, or give compile=False, which runs plain PyTorch"
        )

    __int__ = __index__ = item = tolist = __float__

    def __iter__(self) -> Any:
        raise TraceError(
            f"{user_line()}: the step looks at elements; its values are numbers of one neuron and step. compile=False "
            "runs plain PyTorch"
        )

    def __len__(self) -> int:
        return self.__iter__()  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> Node:
        return self.__iter__()  # type: ignore[no-any-return]

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Node:  # type: ignore[override]
        return _compare("eq", self, other)

    def __ne__(self, other: object) -> Node:  # type: ignore[override]
        return _compare("ne", self, other)

    def __lt__(self, other: Value) -> Node:
        return _compare("lt", self, other)

    def __le__(self, other: Value) -> Node:
        return _compare("le", self, other)

    def __gt__(self, other: Value) -> Node:
        return _compare("gt", self, other)

    def __ge__(self, other: Value) -> Node:
        return _compare("ge", self, other)

    def __add__(self, other: Value) -> Node:
        return _call("add", self, other)

    def __radd__(self, other: Value) -> Node:
        return _call("add", other, self)

    def __sub__(self, other: Value) -> Node:
        return _call("sub", self, other)

    def __rsub__(self, other: Value) -> Node:
        return _call("sub", other, self)

    def __mul__(self, other: Value) -> Node:
        return _call("mul", self, other)

    def __rmul__(self, other: Value) -> Node:
        return _call("mul", other, self)

    def __truediv__(self, other: Value) -> Node:
        return _call("div", self, other)

    def __rtruediv__(self, other: Value) -> Node:
        return _call("div", other, self)

    def __pow__(self, exponent: float) -> Node:
        return _power(self, exponent)

    def __neg__(self) -> Node:
        return _call("neg", self)

    def __pos__(self) -> Node:
        return self

    def __abs__(self) -> Node:
        return _call("abs", self)

    def __and__(self, other: Node) -> Node:
        return _logical("and", self, other)

    def __or__(self, other: Node) -> Node:
        return _logical("or", self, other)

    def __invert__(self) -> Node:
        return _not(self)

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.args)) if self.args else repr(self.value)
        return f"{self.op}({inner})"


class Graph:
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


def _graph(args: Sequence[Any]) -> Graph:
    return next(a.graph for a in args if isinstance(a, Node))


def lift(graph: Graph, value: Any) -> Node:
    """Return the node of a number; nodes are returned unchanged."""
    if isinstance(value, Node):
        return value
    if isinstance(value, (bool, int, float)):
        return graph.constant(value)
    if isinstance(value, torch.Tensor):
        raise TraceError(
            f"{user_line()}: the step reads a tensor from outside, of shape {list(value.shape)}, which would not be "
            "learned or moved; make it a parameter of the step, by keyword"
        )
    raise TraceError(
        f"{user_line()}: the step calculates with a {type(value).__name__}; numbers and its own arguments can be "
        "compiled"
    )


def number(value: Node) -> Node:
    """Convert a condition to 1 or 0; other nodes are returned unchanged."""
    if not value.is_condition:
        return value
    return where(value, 1.0, 0.0)


def _call(op: str, *args: Any) -> Node:
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


def _compare(op: str, a: Any, b: Any) -> Node:
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
    exponents = {2: "square", 0.5: "sqrt", 1: "same", -1: "reciprocal"}
    if isinstance(exponent, (int, float)) and exponent in exponents:
        return ELEMENTWISE[exponents[exponent]](base)  # type: ignore[no-any-return]
    if isinstance(exponent, int) and 2 < exponent < 9 and isinstance(base, Node):
        return graph.node("power", number(base), value=exponent)
    raise TraceError(
        f"{user_line()}: a power is compiled for the exponents -1, 0.5 and 1 to 8, got {exponent}; write "
        "torch.exp(b * torch.log(a))"
    )


def _convert(x: Node, *args: Any, **kwargs: Any) -> Node:
    """``.to``, ``.float`` and the like: a value keeps its dtype, a condition becomes 1 or 0."""
    wanted = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    if any(not d.is_floating_point for d in wanted):
        raise TraceError(f"{user_line()}: values of a step are floating point, got {wanted[0]}")
    return number(x)


def _same(x: Node, *args: Any, **kwargs: Any) -> Node:
    return number(x)


def _choose(flag: Node, a: Value, b: Value) -> Node:
    """``choose`` of :mod:`snnfast.reference.neuron`."""
    return where(flag, a, b)


def _exp_quotient(x: Node, by: Value) -> Node:
    """``exp_quotient`` of :mod:`snnfast.reference.exp`, which may use the reciprocal of its divisor."""
    by = lift(x.graph, by)
    return x.graph.node("exp_quotient", x, by, 1.0 / by)


def _function(name: str) -> Callable[..., Node]:
    """One of :mod:`snnfast.compiler.functions`, which PyTorch and the kernel round alike."""

    def call(x: Node) -> Node:
        return getattr(functions, name)(number(x))  # type: ignore[no-any-return]

    return call


def _full_like(x: Node, value: float) -> Node:
    return x.graph.constant(value)


def _scaled_add(op: str) -> Callable[..., Node]:
    def call(a: Any, b: Any, alpha: float = 1, rounding_mode: str | None = None) -> Node:
        if rounding_mode is not None:
            quotient = _call("div", a, b)
            return _call("floor", quotient)
        return _call(op, a, b if alpha == 1 else _call("mul", alpha, b))

    return call


def _unary(op: str) -> Callable[..., Node]:
    return lambda x: _call(op, x)


def _lerp(a: Any, b: Any, weight: Any) -> Node:
    return _call("add", a, _call("mul", weight, _call("sub", b, a)))


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{op: _scaled_add(op) for op in ("add", "sub", "mul", "div")},
    **{name: _scaled_add("div") for name in ("true_divide", "divide")},
    **{"multiply": _scaled_add("mul"), "subtract": _scaled_add("sub")},
    **{op: _unary(op) for op in ("neg", "abs", "sign", "relu", "sqrt", "floor", "ceil", "round", "trunc")},
    **{"negative": _unary("neg"), "absolute": _unary("abs"), "detach": _unary("detach")},
    **{op: lambda a, b, op=op: _call(op, a, b) for op in ("minimum", "maximum")},
    **{op: lambda a, b, op=op: _compare(op, a, b) for op in COMPARISONS},
    **{name: _function(name) for name in ("exp", "log", "sin", "cos", "sigmoid", "tanh")},
    **{op: lambda a, b, op=op: _logical(op, a, b) for op in ("and", "or")},
    "logical_and": lambda a, b: _logical("and", a, b),
    "logical_or": lambda a, b: _logical("or", a, b),
    "logical_not": _not,
    "bitwise_and": lambda a, b: _logical("and", a, b),
    "bitwise_or": lambda a, b: _logical("or", a, b),
    "bitwise_not": _not,
    "where": where,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda x, min: _clamp(x, min=min),
    "clamp_max": lambda x, max: _clamp(x, max=max),
    "pow": _power,
    "square": lambda x: _call("mul", x, x),
    "reciprocal": lambda x: _call("div", 1.0, x),
    "rsqrt": lambda x: _call("div", 1.0, _call("sqrt", x)),
    "lerp": _lerp,
    "isnan": lambda x: _compare("ne", x, x),
    "same": _same,
    "sum_to_size": _same,
    "clone": _same,
    "contiguous": _same,
    "float": _convert,
    "double": _convert,
    "to": _convert,
    "type_as": _convert,
    "ones_like": lambda x: _full_like(x, 1.0),
    "zeros_like": lambda x: _full_like(x, 0.0),
    "full_like": _full_like,
    # of snnfast/reference and functions.py
    "choose": _choose,
    "exp_quotient": _exp_quotient,
    "exp_nonpositive": _unary("exp_nonpositive"),
    "mantissa": _unary("mantissa"),
    "exponent": _unary("exponent"),
}
_PUBLIC = (
    *("+ - * / **", "comparisons", "& | ~", "exp", "log", "sqrt", "abs", "sign", "relu", "sigmoid", "tanh"),
    *("sin", "cos", "where", "minimum", "maximum", "clamp", "floor", "ceil", "round", "detach"),
)
