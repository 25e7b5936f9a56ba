"""Trace of a step function: its graph for one choice of reset, surrogate and parameters that are tensors."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any, NamedTuple

import torch

from snnfast.reference.surrogate import DERIVATIVES, spike

from .expression import NEURON, NUMBER, Graph, Node, TraceError, lift, number
from .value import Value, traced_functions

__all__ = ["Step", "trace"]


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


@contextmanager
def _local_names(code: CodeType, names: dict[int, str]) -> Iterator[None]:
    """Collect the names of local variables that hold nodes when the function returns."""
    before: Any = sys.getprofile()

    def profile(frame: Any, event: str, argument: Any) -> None:
        if before is not None:
            before(frame, event, argument)
        if event == "return" and frame.f_code is code:
            for name, value in frame.f_locals.items():
                if isinstance(value, Value) and not value.has_changed and not name.startswith("_"):
                    names.setdefault(value.node.id, name)

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
    frame: Callable[[dict[str, Value]], Callable[..., Any]],
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
    arguments = [Value.from_node(leaf, is_argument=True) for leaf in (*xs, *before)]
    parameters = {n: Value.from_node(leaf, is_argument=True) for n, leaf in (number_leaves | tensor_leaves).items()}
    names: dict[int, str] = {}
    code = inspect.unwrap(step).__code__
    with traced_functions(), _local_names(code, names):
        try:
            returned = step(frame(parameters), *arguments, **{name: parameters[name] for name in visible})
        except TraceError:
            raise
        except (RuntimeError, TypeError) as error:  # of functions in C++ or TorchScript, which take tensors alone
            raise TraceError(f"{step.__name__}: {str(error).splitlines()[0]}") from error
    results = list(returned) if isinstance(returned, tuple) else [returned]
    for place, value in enumerate(results):
        if not isinstance(value, (Value, int, float)):
            raise TraceError(
                f"{step.__name__}: result {place} of the step must be a value of the step, got {type(value).__name__}"
            )
        is_state = place >= len(results) - states
        if is_state and isinstance(value, Value) and value.dtype not in (graph.dtype, torch.float64):
            raise TraceError(
                f"{step.__name__}: result {place} of the step is a state in {value.dtype}; convert it, with .to(v) of "
                "another state v"
            )
    if any(value.has_changed for value in (*arguments, *parameters.values())):
        raise TraceError(
            f"{step.__name__}: an argument of the step is changed in place through a view of it, such as detach(); "
            "write a = a + b instead of a += b"
        )
    results = [number(lift(graph, value.node if isinstance(value, Value) else value)) for value in results]
    at = len(results) - states
    return Step(graph, xs, before, number_leaves, tensor_leaves, results[:at], results[at:], names)


class TracedSurrogate:
    """A surrogate of the package whose width is an argument of the kernel."""

    def __init__(self, name: str, alpha: Value) -> None:
        self.name, self.alpha = name, alpha

    def derivative(self, u: Any) -> Any:
        return DERIVATIVES[self.name](u, self.alpha)  # type: ignore[arg-type]

    def __call__(self, u: Any) -> Any:
        return spike(u, self)

    def __repr__(self) -> str:
        return self.name
