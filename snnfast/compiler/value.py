"""Traced values: what the code of a step sees instead of tensors.

PyTorch itself runs every function of a step as well, on samples: tensors of one element. From them come the dtype of a
result, whether it has a gradient, what was changed in place, and PyTorch's own errors. The graph records the operation.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction

from snnfast.reference import functions
from snnfast.reference.eager import KernelFunctions, Scalar

from .expression import CONVERSIONS, ELEMENTWISE, NUMBER, Node, TraceError, call, compare, lift, number, user_line

__all__ = ["Value", "traced_functions"]

_PUBLIC = (
    *("+ - * / **", "comparisons", "& | ^ ~", "exp", "log", "sqrt", "abs", "sign", "relu", "sigmoid", "tanh"),
    *("sin", "cos", "where", "minimum", "maximum", "clamp", "floor", "ceil", "round", "trunc", "detach"),
)
_INSTEAD = {
    "lerp": ", since it rounds differently on different processors: write a + weight * (b - a)",
    "remainder": ": write a - b * torch.floor(a / b)",
    "floor_divide": ": write torch.floor(a / b)",
}
# Functions whose results in int64 are exact: 0 and 1 of conditions, and sums and products of a few.
_EXACT_IN_INTEGERS = ("add", "sub", "rsub", "mul", "neg", "abs", "minimum", "maximum", "where", "clamp")


class TraceAttributeError(TraceError, AttributeError):
    """:class:`TraceError` for an attribute that a traced value lacks."""


class Value:
    """A value of a step: a node of the graph, which a change in place replaces.

    Attributes:
        sample: the tensor that PyTorch calculates with; a ``Scalar`` or False for a value that all neurons share.
        is_argument: whether it is an argument of the step or of an autograd function, which must not change in place.
    """

    __slots__ = ("_node", "_version", "is_argument", "sample")

    def __init__(self, node: Node, sample: Any, is_argument: bool = False) -> None:
        self._become(node, sample)
        self.is_argument = is_argument

    def _become(self, node: Node, sample: Any) -> None:
        self._node, self.sample, self._version = node, sample, _version(sample)

    @classmethod
    def from_node(cls, node: Node, *, has_gradient: bool = True, is_argument: bool = False) -> Value:
        """Return a value for a node, without a gradient if all neurons share it."""
        if node.level == NUMBER:
            return cls(node, _shared_sample(node), is_argument)
        sample = torch.tensor(0.7, dtype=node.graph.dtype)
        return cls(node, sample.requires_grad_() * 1 if has_gradient else sample, is_argument)

    @property
    def node(self) -> Node:
        """Its node.

        Raises:
            TraceError: it was changed in place under another name.
        """
        if self.has_changed:
            raise TraceError(
                f"{user_line()}: a value was changed in place through a view of it, such as detach(); write a = a + b "
                "instead of a += b"
            )
        return self._node

    @property
    def has_changed(self) -> bool:
        """Whether a view of it was changed in place."""
        return _version(self.sample) != self._version

    # To the code of a step it is a tensor with one element per neuron.
    shape = torch.Size(())
    is_cpu = True

    @property
    def dtype(self) -> torch.dtype:
        """PyTorch's dtype; torch.float64 for a number that all neurons share."""
        if isinstance(self.sample, Tensor):
            return self.sample.dtype
        return torch.bool if self._node.is_condition else torch.float64

    @property
    def requires_grad(self) -> bool:
        """Whether it has a gradient, which arguments have."""
        return self.is_argument or _has_gradient(self)

    def size(self) -> torch.Size:
        """Return its shape."""
        return self.shape

    def is_floating_point(self) -> bool:
        """Return whether its dtype is floating point."""
        return self.dtype.is_floating_point

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.where:
            function, args = torch.where, (args[1], args[0], *args[2:])
        return _run(getattr(function, "__name__", str(function)), function, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        function = getattr(Tensor if isinstance(self.sample, Tensor) else torch, name, None)
        if function is None or (name.removesuffix("_") not in ELEMENTWISE and name not in functions.__all__):
            raise TraceAttributeError(
                f"{user_line()}: .{name} cannot be compiled in a step function, whose values are numbers of one neuron "
                f"and step{_instead(name)}. What can: {', '.join(_PUBLIC)}; compile=False runs plain PyTorch"
            )
        return lambda *args, **kwargs: self.__torch_function__(function, (), (self, *args), kwargs)

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

    def __getitem__(self, key: Any) -> Value:
        return self.__iter__()  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__iter__()

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return repr(self._node)

    # Operations that only snnfast/reference and functions.py know; none has a gradient.

    def exp_nonpositive(self) -> Value:
        """Return ``exp_nonpositive`` of :mod:`snnfast.reference.exp`."""
        return self._inner("exp_nonpositive")

    def exponential(self) -> Value:
        """Return ``exponential`` of :mod:`snnfast.reference.exp`."""
        return self._inner("exponential")

    def exp_quotient(self, divisor: Any) -> Value:
        """Return ``exp_quotient`` of :mod:`snnfast.reference.exp`, which may use the reciprocal of its divisor."""
        node = lift(self.node.graph, _node(divisor))
        return self._inner("exp_quotient", node, call("div", 1.0, node))

    def mantissa(self) -> Value:
        """Return the mantissa of :mod:`snnfast.reference.functions`."""
        return self._inner("mantissa")

    def exponent(self) -> Value:
        """Return the exponent of :mod:`snnfast.reference.functions`."""
        return self._inner("exponent")

    def _inner(self, op: str, *more: Node) -> Value:
        node = self.node.graph.node(op, self.node, *more)
        sample = self.sample.detach().clone() if isinstance(self.sample, Tensor) else self.sample
        return Value(node, sample)


def _version(sample: Any) -> int:
    return sample._version if isinstance(sample, Tensor) else 0


def _shared_sample(node: Node) -> Any:
    return False if node.is_condition else Scalar(0.7)


def _node(value: Any) -> Any:
    if isinstance(value, Tensor):
        raise TraceError(
            f"{user_line()}: the step reads a tensor from outside, of shape {list(value.shape)}, which would not be "
            "learned or moved; make it a parameter of the step, by keyword"
        )
    return value.node if isinstance(value, Value) else value


def _instead(name: str) -> str:
    return _INSTEAD.get(name.removesuffix("_"), "")


def _run(name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
    """Return the result of PyTorch's function ``name``; with ``_`` at its end it changes its first argument."""
    rule, every = ELEMENTWISE.get(name.removesuffix("_")), (*args, *kwargs.values())
    nodes, named = [_node(a) for a in args], {key: _node(a) for key, a in kwargs.items()}
    if name in functions.__all__ and len(args) == 1 and not kwargs:
        return _of_numbers(name, args[0])
    if rule is None:
        raise TraceError(
            f"{user_line()}: torch.{name} cannot be compiled in a step function{_instead(name)}. What can: "
            f"{', '.join(_PUBLIC)}; write it with these, take it out of the step, or give compile=False, which runs "
            "plain PyTorch"
        )
    values = [a for a in every if isinstance(a, Value)]
    graph, shared = values[0].node.graph, not any(isinstance(a.sample, Tensor) for a in values)
    try:
        result = None if shared else _by_pytorch(name, function, args, kwargs, graph.dtype)
    except (RuntimeError, TypeError) as error:
        raise TraceError(f"{user_line()}: {error}") from error
    try:
        node = rule(*nodes, **named)
    except TraceError:
        raise
    except TypeError:
        arguments = ", ".join(f"{key}=" for key in kwargs) or "these arguments"
        raise TraceError(
            f"{user_line()}: torch.{name} with {arguments} cannot be compiled in a step function; compile=False runs "
            "plain PyTorch"
        ) from None
    if result is None:
        if name not in ELEMENTWISE:
            raise TraceError(f"{user_line()}: {name} changes a number in place; write it out of place")
        return Value(node, _shared_sample(node))
    changed = [a for a in values if a.has_changed]
    same = [a for a in values if a.sample is result]
    if same and not changed and name in ELEMENTWISE and name != "choose":
        return same[0]
    if name not in ELEMENTWISE and not changed:
        raise TraceError(f"{user_line()}: {name} changes a value in place; write it out of place")
    node = _with_gradient(_in_dtype(name, node, result.dtype, every), result, values)
    if not changed:
        return Value(node, result)
    target = changed[0]
    if target.is_argument:
        raise TraceError(
            f"{user_line()}: an argument is changed in place, and with it a tensor of the caller or of the step "
            "before; write a = a + b instead of a += b"
        )
    if len(changed) > 1 or (result.requires_grad and not torch.is_grad_enabled()):
        raise TraceError(
            f"{user_line()}: a value is changed in place, beside a view of it or without its gradient; write a = a + b "
            "instead of a += b"
        )
    target._become(node, result)
    return target


def _by_pytorch(
    name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], dtype: torch.dtype
) -> Tensor:
    def sample(value: Any) -> Any:
        return value.sample if isinstance(value, Value) else value

    samples = [sample(a) for a in args]
    if name == "choose":  # of snnfast.reference.neuron, by a flag of a kernel
        return next(a for a in reversed(samples) if isinstance(a, Tensor))
    if name == "where":
        samples = [torch.tensor(a) if isinstance(a, bool) else a for a in samples]
    with KernelFunctions(dtype) if name == "where" else nullcontext():
        found: Tensor = function(*samples, **{key: sample(a) for key, a in kwargs.items()})
    return found


def _of_numbers(name: str, x: Value) -> Value:
    """Return a function of :mod:`snnfast.reference.functions`, which PyTorch and the kernel round alike."""
    wide = x.node.graph.dtype
    if x.node.level != NUMBER and x.dtype != wide:
        result = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        x = x.to(wide) if result == wide else _refuse_dtype(name, result, wide)
    return getattr(functions, name)(x)  # type: ignore[no-any-return]


def _in_dtype(name: str, node: Node, dtype: torch.dtype, operands: Sequence[Any]) -> Node:
    """Return a condition for torch.bool and a number for others, if the kernel computes what PyTorch does."""
    if dtype == torch.bool:
        return node if node.is_condition else compare("ne", node, 0.0)
    values = [a for a in operands if isinstance(a, Value)]
    wide = node.graph.dtype
    if dtype != wide:
        narrow = all(a.dtype != wide and isinstance(a.sample, Tensor) for a in values)
        small = all(abs(a) <= 1024 for a in operands if isinstance(a, int))
        if (
            not narrow
            or not small
            or not (name in CONVERSIONS or (name in _EXACT_IN_INTEGERS and dtype == torch.int64))
        ):
            _refuse_dtype(name, dtype, wide)
    return number(node)


def _refuse_dtype(name: str, found: torch.dtype, wanted: torch.dtype) -> NoReturn:
    raise TraceError(
        f"{user_line()}: the result of {name} is in {found}, and the step is computed in {wanted}; convert its "
        "operands before, with .to(v) of a state v"
    )


def _with_gradient(node: Node, result: Tensor, values: Sequence[Value]) -> Node:
    """Return the node, detached if PyTorch's result has no gradient, though its operands have."""
    if not result.is_floating_point() or result.requires_grad or node.op == "constant":
        return node
    attached = any(isinstance(a.sample, Tensor) and a.sample.requires_grad for a in values)
    return call("detach", node) if attached else node


_BINARY = {
    **{"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow", "mod": "remainder"},
    **{"floordiv": "floor_divide", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "matmul": "matmul"},
}
_UNARY = {"neg": "neg", "pos": "positive", "abs": "abs", "invert": "bitwise_not"}


def _define_operators() -> None:
    def define(place: str, name: str, function: Any, swap: bool = False) -> None:
        def run(*operands: Any) -> Value:
            return _run(name, function, operands[::-1] if swap else operands, {})

        setattr(Value, f"__{place}__", run)

    def define_in_place(place: str, name: str, function: Any, plain: Any) -> None:
        def run(self: Value, other: Any) -> Value:
            if isinstance(self.sample, Tensor):
                return _run(f"{name}_", function, (self, other), {})
            return _run(name, plain, (self, other), {})  # numbers do not change

        setattr(Value, f"__{place}__", run)

    for place, name in _BINARY.items():
        plain = getattr(operator, f"__{place}__")
        define(place, name, plain)
        define(f"r{place}", name, plain, swap=True)
        define_in_place(f"i{place}", name, getattr(operator, f"__i{place}__"), plain)
    for place, name in _UNARY.items():
        define(place, name, getattr(operator, f"__{place}__"))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        define(name, name, getattr(operator, name))


_define_operators()


# ---- autograd functions


class _Custom:
    """A call of a ``torch.autograd.Function`` on traced values: its context, and its node's value."""

    def __init__(self, function: Any, arguments: Sequence[Any]) -> None:
        self.function, self.arguments = function, arguments
        self.places = [k for k, a in enumerate(arguments) if isinstance(a, Value)]
        self.saved_tensors: tuple[Any, ...] = ()
        self.needs_input_grad = tuple(_has_gradient(a) for a in arguments)
        self.constants: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        # Copies: a value that changes in place later has another node then, but is a saved tensor of PyTorch.
        self.saved_tensors = tuple(Value(a.node, _detached(a.sample)) if isinstance(a, Value) else a for a in tensors)

    def save_for_forward(self, *tensors: Any) -> None:
        pass

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self.constants = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        raise TraceError(f"{user_line()}: {self.function.__name__} changes its arguments in place; return a new value")

    def set_materialize_grads(self, value: bool) -> None:
        pass

    def backward(self, grad: Node) -> list[Any]:
        """Return the gradients of all arguments, as nodes, numbers or None."""
        with traced_functions(), torch.no_grad():
            returned = self.function.backward(self, Value.from_node(grad, has_gradient=False, is_argument=True))
        grads = returned if isinstance(returned, tuple) else (returned,)
        if len(grads) < len(self.arguments):
            raise TraceError(
                f"{self.function.__name__}: backward must return a gradient for each of {len(self.arguments)} "
                f"arguments, got {len(grads)}"
            )
        return [_node(grad) for grad in grads]

    def __repr__(self) -> str:
        """Text of a call: two calls of one function with the same arguments are one node."""
        others = [a for a in self.arguments if not isinstance(a, Value)]
        plain = (bool, int, float, str, type(None))
        return f"{id(self.function)}({', '.join(repr(a) if isinstance(a, plain) else str(id(a)) for a in others)})"


def _has_gradient(value: Any) -> bool:
    return isinstance(value, Value) and isinstance(value.sample, Tensor) and value.sample.requires_grad


def _detached(sample: Any) -> Any:
    return sample.detach() if isinstance(sample, Tensor) else sample


def _apply(function: Any, arguments: Sequence[Any]) -> Value:
    custom = _Custom(function, arguments)
    inner = [Value(a.node, _detached(a.sample), True) if isinstance(a, Value) else a for a in arguments]
    with torch.no_grad():
        if function.setup_context is not _SingleLevelFunction.setup_context:
            result = function.forward(*inner)
            function.setup_context(custom, tuple(inner), result)
        else:
            result = function.forward(custom, *inner)
    if not isinstance(result, Value):
        raise TraceError(f"{user_line()}: {function.__name__} must return one value, got {type(result).__name__}")
    if not result.is_floating_point() or not isinstance(result.sample, Tensor):
        return Value(result.node, result.sample)
    attached = [a for a in arguments if _has_gradient(a)]
    sample = result.sample.detach().clone()
    if any(a is result for a in custom.constants) or not torch.is_grad_enabled():
        return Value(call("detach", result.node) if attached else result.node, sample)
    if attached:
        sample = sample + 0 * attached[0].sample.to(sample.dtype)
    inputs = [a.node for a in arguments if isinstance(a, Value)]
    return Value(result.node.graph.node("custom", result.node, *inputs, value=custom), sample)


_patching = threading.RLock()


@contextmanager
def traced_functions() -> Iterator[None]:
    """Inside, ``apply`` of an autograd function on traced values traces its forward and backward.

    ``Function.apply`` looks its own ``apply`` up below itself, also one that was taken as ``Mine.apply`` before.
    """

    def apply(cls: Any, *arguments: Any, **named: Any) -> Any:
        if any(isinstance(a, Value) for a in arguments) and not named:
            return _apply(cls, arguments)
        return super(_SingleLevelFunction, cls).apply(*arguments, **named)

    with _patching:
        before = _SingleLevelFunction.__dict__.get("apply")
        setattr(_SingleLevelFunction, "apply", classmethod(apply))  # noqa: B010
        try:
            yield
        finally:
            if before is None:
                delattr(_SingleLevelFunction, "apply")
            else:
                setattr(_SingleLevelFunction, "apply", before)  # noqa: B010
