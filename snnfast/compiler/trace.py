"""Trace of a step function: its graph for one choice of reset, surrogate and parameters that are tensors."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any, NamedTuple

import torch

from snnfast.reference.surrogate import DERIVATIVES, spike

from .expression import NEURON, NUMBER, Graph, Node, TraceError, lift, number, user_line

__all__ = ["Step", "trace", "traced_functions"]


class Step(NamedTuple):
    """One traced step.

    Attributes:
        graph: its graph.
        inputs, states: leaves, in the order of the step's arguments.
        numbers, tensors: leaves of the parameters by name.
        outputs: results of the step before its states.
        after: the states after the step.
        names: variables of the source by the id of their node.
    """

    graph: Graph
    inputs: list[Node]
    states: list[Node]
    numbers: dict[str, Node]
    tensors: dict[str, Node]
    outputs: list[Node]
    after: list[Node]
    names: dict[int, str]


class _Custom:
    """A call of a ``torch.autograd.Function`` on traced values."""

    def __init__(self, function: Any, arguments: Sequence[Any]) -> None:
        self.function, self.arguments = function, arguments
        self.places = [k for k, a in enumerate(arguments) if isinstance(a, Node)]
        self.saved_tensors: tuple[Any, ...] = ()
        self.needs_input_grad = tuple(isinstance(a, Node) for a in arguments)

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        pass

    def set_materialize_grads(self, value: bool) -> None:
        pass

    def backward(self, grad: Node) -> Any:
        return self.function.backward(self, grad)


def _apply_traced(function: Any, *arguments: Any) -> Node:
    custom = _Custom(function, arguments)
    if function.setup_context is not torch.autograd.function._SingleLevelFunction.setup_context:
        result = function.forward(*arguments)
        function.setup_context(custom, arguments, result)
    else:
        result = function.forward(custom, *arguments)
    if not isinstance(result, Node):
        raise TraceError(f"{user_line()}: {function.__name__} must return one value, got {type(result).__name__}")
    inputs = [a for a in arguments if isinstance(a, Node)]
    result = number(result)
    return result.graph.node("custom", result, *inputs, value=_Identity(custom))


class _Identity:
    """The value of a call's node: two calls are the same node if function and arguments are the same."""

    def __init__(self, custom: _Custom) -> None:
        self.custom = custom

    def __getattr__(self, name: str) -> Any:
        return getattr(self.custom, name)

    def __repr__(self) -> str:
        function = self.custom.function
        others = [repr(a) for a in self.custom.arguments if not isinstance(a, Node)]
        return f"{function.__module__}.{function.__qualname__}({', '.join(others)})"


_patching = threading.RLock()


@contextmanager
def traced_functions() -> Iterator[None]:
    """Inside, ``apply`` of an autograd function on traced values traces its forward and backward."""
    plain = torch.autograd.Function.__dict__["apply"]

    def apply(cls: Any, *arguments: Any, **named: Any) -> Any:
        if any(isinstance(a, Node) for a in arguments):
            return _apply_traced(cls, *arguments)
        return plain.__get__(None, cls)(*arguments, **named)

    with _patching:
        setattr(torch.autograd.Function, "apply", classmethod(apply))  # noqa: B010
        try:
            yield
        finally:
            setattr(torch.autograd.Function, "apply", plain)  # noqa: B010


@contextmanager
def _local_names(code: CodeType, names: dict[int, str]) -> Iterator[None]:
    """Collect the names of local variables that hold nodes when the function returns."""
    before = sys.getprofile()

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code is code:
            for name, value in frame.f_locals.items():
                if isinstance(value, Node) and not name.startswith("_"):
                    names.setdefault(value.id, name)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)


def trace(
    step: Callable[..., Any],
    *,
    inputs: int,
    states: int,
    numbers: Sequence[str],
    tensors: Sequence[str],
    dtype: torch.dtype,
    frame: Callable[[dict[str, Node]], Callable[..., Any]],
    visible: Sequence[str],
    graph: Graph | None = None,
) -> Step:
    """Run ``step(fire, *inputs, *states, **parameters)`` on leaves of a new graph.

    Args:
        step: the step function.
        inputs: number of its inputs.
        states: number of its states.
        numbers: names of the parameters that are numbers.
        tensors: names of the parameters that are tensors.
        dtype: dtype of the states.
        frame: returns ``fire`` for the parameters' leaves.
        visible: names of the parameters that the step takes; only the frame takes the others.
        graph: the graph of another trace, whose nodes are shared.

    Raises:
        TraceError: with the line of the step.
    """
    graph = graph or Graph(dtype)
    xs = [graph.leaf("input", k) for k in range(inputs)]
    before = [graph.leaf("state", k) for k in range(states)]
    number_leaves = {name: graph.leaf("number", name, NUMBER) for name in numbers}
    tensor_leaves = {name: graph.leaf("tensor", name, NEURON) for name in tensors}
    parameters = number_leaves | tensor_leaves
    names: dict[int, str] = {}
    code = inspect.unwrap(step).__code__
    with traced_functions(), _local_names(code, names):
        returned = step(frame(parameters), *xs, *before, **{name: parameters[name] for name in visible})
    results = list(returned) if isinstance(returned, tuple) else [returned]
    for place, value in enumerate(results):
        if not isinstance(value, (Node, int, float)):
            raise TraceError(
                f"{step.__name__}: result {place} of the step must be a value of the step, got {type(value).__name__}"
            )
    results = [number(lift(graph, value)) for value in results]
    at = len(results) - states
    return Step(graph, xs, before, number_leaves, tensor_leaves, results[:at], results[at:], names)


class TracedSurrogate:
    """A surrogate of the package whose width is an argument of the kernel."""

    def __init__(self, name: str, alpha: Node) -> None:
        self.name, self.alpha = name, alpha

    def derivative(self, u: Any) -> Any:
        return DERIVATIVES[self.name](u, self.alpha)  # type: ignore[arg-type]

    def __call__(self, u: Any) -> Any:
        return spike(u, self)

    def __repr__(self) -> str:
        return self.name
