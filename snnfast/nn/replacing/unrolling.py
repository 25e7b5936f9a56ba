"""Loops over steps, unrolled by ``torch.fx``, and the functions that run in their place."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

from torch import Tensor, fx
from torch.overrides import handle_torch_function, has_torch_function

from ..tracer import Tracer

__all__ = ["UNROLLED", "Unrolling", "beside", "every_step", "first_steps", "rows"]

Node: TypeAlias = Any  # of torch.fx, whose arguments may be anything
F = TypeVar("F", bound=Callable[..., Any])

# How often a loop is unrolled whose steps are those of the input; then what is made takes any number of them.
UNROLLED = 5


class _Value(fx.Proxy):
    """A value in the trace; the size of an input as a number is that of its steps."""

    def __index__(self) -> int:
        node, source = self.node, None
        if node.target == "size":
            source = node.args[0]
        elif node.target is operator.getitem and node.args[0].args[1:] == ("shape",):  # type: ignore[union-attr]
            source = node.args[0].args[0]  # type: ignore[union-attr]
        dim = node.args[1] if len(node.args) > 1 else None
        return self.tracer.steps_of(source, dim)  # type: ignore[attr-defined, no-any-return]


class Unrolling(Tracer):
    """Unrolls a loop over the steps of an input, too.

    Args:
        steps: how often.

    Attributes:
        given: the input whose size was asked for as a number, and the dimension.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.given: tuple[Node, int] | None = None

    def proxy(self, node: Node) -> fx.Proxy:
        """A value that may be asked for as a number."""
        return _Value(node, self)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """The steps of an input, time first."""
        return iter([obj[t] for t in range(self.steps_of(obj.node, 0))])  # type: ignore[index]

    def steps_of(self, source: Node, dim: Any) -> int:
        """So many steps as are unrolled, if a dimension of an input is asked for."""
        known = isinstance(source, fx.Node) and source.op == "placeholder" and dim in (0, 1)
        if not known or self.given not in (None, (source, dim)):
            raise TypeError("the number of steps is neither a constant nor the size of the input")
        self.given = source, dim
        return self.steps


# ---- what runs in the place of a loop


def _leaf(function: F) -> F:
    """``function``, which tracers of ``torch.fx`` take as a whole."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        if has_torch_function(arguments):
            return handle_torch_function(run, arguments, *arguments)
        return function(*arguments)

    return run  # type: ignore[return-value]


@_leaf
def every_step(x: Tensor, steps: int) -> Tensor:
    """What is the same at every step."""
    return x.expand(steps, *x.shape)


@_leaf
def first_steps(x: Tensor, steps: int, dim: int) -> Tensor:
    """The steps of what is given, time first; the loop may leave later ones out."""
    if x.shape[dim] < steps:
        raise IndexError(
            f"the loop takes {steps} steps of dimension {dim}, which has {x.shape[dim]}"
        )
    return x.narrow(dim, 0, steps).movedim(dim, 0)


@_leaf
def beside(x: Any, every: Tensor, same: bool) -> Any:
    """``x`` next to a value of every step, where broadcasting does to all steps what it does to one."""
    fits = not isinstance(x, Tensor) or (x.dim() == every.dim() if same else x.dim() < every.dim())
    if not fits:
        shapes = f"{list(x.shape[1:] if same else x.shape)} next to {list(every.shape[1:])}"
        raise ValueError(f"a loop that was taken apart cannot broadcast values of a step, {shapes}")
    return x


@_leaf
def rows(x: Tensor, batch: int, features: int) -> Tensor:
    """``view(batch, features)`` at every step, one of the two being -1, if that makes a row of every sample."""
    result = x.flatten(2)
    if batch not in (-1, x.shape[1]) or features not in (-1, result.shape[2]):
        raise ValueError(
            f"a loop that was taken apart can make a row of every sample, {list(result.shape[1:])}, got view({batch}, "
            f"{features})"
        )
    return result
