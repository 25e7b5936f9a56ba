"""A network whose ``forward`` loops over the steps, as one whose layers take all steps: :func:`without_loop`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnfast.nn.multi_step import layers_of_a_step

from .steps import Loop
from .traces import copied, difference, is_neuron, may_be_none, refuse_at, unrolled
from .unrolling import UNROLLED, Unrolling

__all__ = ["without_loop"]

# The graph has to be the same with so many steps, too, or it would hold for UNROLLED alone.
MORE = 40


def without_loop(net: nn.Module, inputs: Sequence[tuple[Any, ...]] = ()) -> nn.Module:
    """``net`` with the loop over the steps in its ``forward`` taken apart: each layer takes all steps in one call.

    ``net`` calls neurons once a step. :mod:`torch.fx` unrolls the loop. What the steps have in common becomes one call:
    of neurons over the sequence, of layers without time in :class:`snnfast.nn.Time`.

    Args:
        net: the network; it is not changed.
        inputs: arguments of calls, whose numbers of steps are looked at, too.

    Raises:
        ValueError: where torch.fx cannot follow ``forward``, or steps do more than that.
    """
    net = copied(net)
    layers_of_a_step(net)
    with torch.random.fork_rng():
        trace = _followed(net)
        others = []
        if trace.given is not None:
            lengths = {_length(trace, arguments) for arguments in inputs} - {0, 1, UNROLLED, MORE}
            others = [unrolled(net, steps) for steps in (MORE, *sorted(lengths))]
    # The size may have been asked for, and the loop have a constant number of steps all the same.
    by_input = any(_calls(other) != _calls(trace) for other in others)
    loops = [Loop(copied(net), other, by_input) for other in others]
    loop = Loop(net, trace, by_input)
    for other in loops:
        node = difference(loop.made, other.made, (loop.traced, other.traced))
        if node is not None:
            other.refuse(
                node,
                f"with {other.unrolled} steps it is another than with {loop.unrolled}, and there may be any number",
            )
    return loop.module()


def _followed(net: nn.Module) -> Unrolling:
    """The trace of ``net``, whose ``forward`` does the same each time and in each mode."""
    trace = unrolled(net, UNROLLED)

    def is_the_same(other: Unrolling, why: str) -> None:
        node = difference(trace.graph, other.graph, (trace.root, other.root))
        if node is not None:
            refuse_at(net, node, why)

    again = unrolled(net, UNROLLED)
    is_the_same(again, "it is another each time: random numbers, or something that forward counts")
    other = unrolled(net, UNROLLED, training=not net.training)
    is_the_same(other, "it is another in train() than in eval()")
    with torch.set_grad_enabled(not torch.is_grad_enabled()):
        is_the_same(unrolled(net, UNROLLED), "it is another under torch.no_grad()")
    if names := may_be_none(net):
        other = unrolled(net, UNROLLED, left_out=True)
        is_the_same(other, f"it is another where {', '.join(names)} is None")
    return trace


def _length(trace: Unrolling, arguments: tuple[Any, ...]) -> int:
    """The size that ``forward`` asks for, of a call with these arguments; 0 if it has none."""
    source, dim = trace.given  # type: ignore[misc]
    inputs = [node for node in trace.graph.nodes if node.op == "placeholder"]
    position = inputs.index(source)
    given = arguments[position] if position < len(arguments) else None
    return given.shape[dim] if isinstance(given, Tensor) and given.dim() > dim else 0


def _calls(trace: Unrolling) -> int:
    return sum(is_neuron(trace.root, node) for node in trace.graph.nodes)
