"""Trace of a step function: its graph for one choice of reset, surrogate and parameters that are tensors."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any, NamedTuple

import torch

from snnfast.reference.surrogate import DERIVATIVES, spike

from .expression import Node, StepGraph, TraceError, lift, number
from .value import Value, traced_functions

__all__ = ["TracedStep", "trace"]


class TracedStep(NamedTuple):
    """One traced step.

    Attributes:
        graph: its graph.
        inputs, states: leaves, in the order of the step's arguments.
        numbers, tensors: leaves of the parameters by name.
        outputs: results of the step before its states.
        after: the states after the step.
        names: variables of the source by the id of their node.
    """

    graph: StepGraph
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
    graph: StepGraph,
    inputs: int,
    states: int,
    numbers: dict[str, Node] | None = None,
    tensors: dict[str, Node] | None = None,
) -> TracedStep:
    """Run ``step(parameters, *inputs, *states)`` on leaves of a graph, parameters by name.

    Args:
        step: the step function.
        graph: the graph; traces of several steps may share its nodes.
        inputs: number of its inputs.
        states: number of its states.
        numbers: leaves of the parameters that are numbers.
        tensors: leaves of the other parameters.

    Raises:
        TraceError: with the line of the step.
    """
    numbers, tensors = numbers or {}, tensors or {}
    xs = [graph.leaf("input", k) for k in range(inputs)]
    before = [graph.leaf("state", k) for k in range(states)]
    arguments = [Value.from_node(leaf, is_argument=True) for leaf in (*xs, *before)]
    parameters = {name: Value.from_node(leaf, is_argument=True) for name, leaf in (numbers | tensors).items()}
    names: dict[int, str] = {}
    code = inspect.unwrap(step).__code__
    with traced_functions(), _local_names(code, names):
        try:
            returned = step(parameters, *arguments)
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
    first_state = len(results) - states
    return TracedStep(graph, xs, before, numbers, tensors, results[:first_state], results[first_state:], names)


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
