"""Tracer that unrolls loops over steps, and the functions that run in place of the loops."""

from __future__ import annotations

import functools
import linecache
import operator
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, fx
from torch.overrides import handle_torch_function, has_torch_function

from snnfast.nn.tracer import InPlace, Tracer

__all__ = [
    *("LINE", "UNROLLED", "Node", "Unrolling", "alongside", "every_step", "filled"),
    *("first_steps", "line_of_error", "shown", "viewed"),
]

Node: TypeAlias = Any  # a torch.fx.Node, whose arguments may be anything
F = TypeVar("F", bound=Callable[..., Any])

# Number of steps to which a loop over the input is unrolled; the resulting graph takes any number.
UNROLLED = 5
# Key in the metadata of a node: the line of forward that calls it.
LINE = "snnfast line"
# Functions that take sizes: torch.fx traces them only if they are wrapped.
_MAKERS = (torch.zeros, torch.ones, torch.full, torch.empty)


class _Value(InPlace):
    """A value in the trace; the size of an input as an integer is the number of unrolled steps."""

    def __len__(self) -> int:
        return self.tracer.steps_of(self.node, 0)  # type: ignore[attr-defined, no-any-return]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __index__(self) -> int:
        node, source = self.node, None
        if node.target == "size":
            source = node.args[0]
        elif node.target is operator.getitem and node.args[0].args[1:] == ("shape",):  # type: ignore[union-attr]
            source = node.args[0].args[0]  # type: ignore[union-attr]
        dim = node.args[1] if len(node.args) > 1 else None
        return self.tracer.steps_of(source, dim)  # type: ignore[attr-defined, no-any-return]


class Unrolling(Tracer):
    """Tracer that also unrolls a loop over the steps of an input.

    Args:
        steps: number of steps to unroll.

    Attributes:
        sized_input: the input whose size was read as an integer, and the dimension.
        resets: by the name of a neuron, the number of its calls before each of its resets.
    """

    # The graph reads a buffer at each call; it is no constant.
    proxy_buffer_attributes = True

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._autowrap_function_ids.update(map(id, _MAKERS))
        self._autowrap_search.append(torch)
        self.steps = steps
        self.sized_input: tuple[Node, int] | None = None
        self.calls: Counter[str] = Counter()
        self.resets: dict[str, list[int]] = defaultdict(list)
        self.modes = _modes()

    def create_node(self, kind: str, *arguments: Any, **named: Any) -> fx.Node:
        """Return a new node, with the line of ``forward`` that creates it.

        Raises:
            ValueError: if ``forward`` switches gradients or autocast, which the graph would not show.
        """
        if _modes() != self.modes:
            raise ValueError("it switches gradients or autocast on or off, which is not followed")
        node = super().create_node(kind, *arguments, **named)
        self.calls[str(node.target)] += kind == "call_module"
        node.meta[LINE] = _line(sys._getframe(1))
        return node

    def proxy(self, node: Node) -> fx.Proxy:
        """Return a proxy that can be converted to an integer."""
        return _Value(node, self)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over the steps of an input, time first."""
        return iter([obj[t] for t in range(self.steps_of(obj.node, 0))])  # type: ignore[index]

    def steps_of(self, source: Node, dim: Any) -> int:
        """Return the number of unrolled steps as the size of a dimension of an input; refuse other sizes."""
        known = isinstance(source, fx.Node) and source.op == "placeholder" and isinstance(dim, int)
        if not known or self.sized_input not in (None, (source, dim)):
            raise TypeError("the number of steps is neither a constant nor the size of an input as it is given")
        self.sized_input = source, dim
        return self.steps


def _modes() -> tuple[bool, ...]:
    autocast = (torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    return torch.is_grad_enabled(), *autocast


def _is_users(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] not in ("torch", "snnfast", "snnfast_zoo")


def _line(frame: FrameType | None) -> tuple[str, int] | None:
    """Return file and number of the line that runs outside of PyTorch and this package."""
    while frame is not None and not _is_users(frame):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame else None


def shown(line: tuple[str, int] | None) -> str:
    """Return a suffix for a message: file, number and text of a line."""
    if line is None:
        return ""
    code = linecache.getline(*line).strip()
    return f" ({line[0]}:{line[1]}{': ' if code else ''}{code})"


def line_of_error(trace: TracebackType | None) -> str:
    """Return the last user line of a traceback, formatted by :func:`shown`."""
    found = None
    while trace is not None:
        if _is_users(trace.tb_frame):
            found = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return shown(found)


# ---- functions that run in place of a loop


def _leaf(function: F) -> F:
    """Decorate ``function`` so that tracers of ``torch.fx`` record it as one node."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        if has_torch_function(arguments):
            return handle_torch_function(run, arguments, *arguments)
        return function(*arguments)

    return run  # type: ignore[return-value]


@_leaf
def every_step(x: Tensor, steps: int) -> Tensor:
    """Expand a value that is the same at every step to ``[steps, ...]``."""
    return x.expand(steps, *x.shape)


@_leaf
def first_steps(x: Tensor, steps: int, dim: int) -> Tensor:
    """Return the first steps of ``x``, time first; the loop may ignore later steps."""
    if x.shape[dim] < steps:
        raise IndexError(f"the loop takes {steps} steps of dimension {dim}, which has {x.shape[dim]}")
    return x.narrow(dim, 0, steps).movedim(dim, 0)


@_leaf
def filled(x: Tensor, every: Tensor, dim: int) -> Tensor:
    """Return ``x`` with the steps along ``dim`` set to ``every``."""
    while every.dim() > x.dim() and every.shape[1] == 1:
        every = every.squeeze(1)
    x = x.clone()
    x.narrow(dim, 0, every.shape[0]).copy_(_in_rank(every, x.dim() - 1).movedim(0, dim))
    return x


@_leaf
def alongside(every: Tensor, same: tuple[bool, ...], *others: Any) -> Tensor:
    """Reshape ``every`` ``[T, ...]`` to broadcast with ``others`` as each step does; ``same``: which have steps."""
    sizes = [x.dim() - s for x, s in zip(others, same) if isinstance(x, Tensor)]
    return _in_rank(every, max(sizes, default=0))


@_leaf
def viewed(x: Tensor, *sizes: int | None) -> Tensor:
    """Apply ``view(*sizes)`` to every step; None stands for its first dimension."""
    return x.reshape(x.shape[0], *(x.shape[1] if size is None else size for size in sizes))


def _in_rank(every: Tensor, rank: int) -> Tensor:
    """Return ``every`` ``[T, ...]`` with steps of at least ``rank`` dimensions."""
    missing = rank + 1 - every.dim()
    return every.reshape(every.shape[0], *[1] * missing, *every.shape[1:]) if missing > 0 else every
