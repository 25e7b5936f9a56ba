"""Conversion of a ``forward`` that loops over the steps into layers that take all steps: :func:`without_loop`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnfast.nn.multi_step import layers_of_a_step

from .kept_dropout import keep_dropouts
from .steps import UnrolledLoop
from .traces import copied, difference, is_neuron, may_be_none, refuse_at, unrolled
from .unrolling import UNROLLED, Unrolling

__all__ = ["without_loop"]

# The graph must be the same with this number of steps, too; else it would hold for UNROLLED only.
MORE = 40


def without_loop(net: nn.Module, inputs: Sequence[tuple[Any, ...]] = ()) -> nn.Module:
    """Return ``net`` without the loop over the steps in its ``forward``: each layer takes all steps in one call.

    ``net`` calls its neurons once a step. :mod:`torch.fx` unrolls the loop. Operations that all steps share become one
    call: of neurons over the sequence, of layers without time in :class:`snnfast.nn.Time`.

    Args:
        net: the network; it is not changed.
        inputs: arguments of calls; the graph is compared for their numbers of steps, too.

    Raises:
        ValueError: if torch.fx cannot follow ``forward``, or steps have other operations.
    """
    net = copied(net)
    layers_of_a_step(net)
    keep_dropouts(net)
    with torch.random.fork_rng():
        trace = _followed(net)
        others = []
        if trace.sized_input is not None:
            lengths = {_length(trace, arguments) for arguments in inputs} - {0, 1, UNROLLED, MORE}
            others = [unrolled(net, steps) for steps in (MORE, *sorted(lengths))]
    # forward may read the size and still loop over a constant number of steps.
    by_input = any(_calls(other) != _calls(trace) for other in others)
    loops = [UnrolledLoop(copied(net), other, by_input) for other in others]
    loop = UnrolledLoop(net, trace, by_input)
    for other in loops:
        node = difference(loop.new_graph, other.new_graph, (loop.traced, other.traced))
        if node is not None:
            other.refuse(
                node,
                f"with {other.unrolled} steps it is another than with {loop.unrolled}, and there may be any number",
            )
    return loop.module()


def _followed(net: nn.Module) -> Unrolling:
    """Trace ``net``; refuse a ``forward`` that differs between calls or modes."""
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
    """Return the size that ``forward`` reads, in a call with these arguments; 0 if there is none."""
    source, dim = trace.sized_input  # type: ignore[misc]
    inputs = [node for node in trace.graph.nodes if node.op == "placeholder"]
    position = inputs.index(source)
    value = arguments[position] if position < len(arguments) else None
    return value.shape[dim] if isinstance(value, Tensor) and value.dim() > dim else 0


def _calls(trace: Unrolling) -> int:
    return sum(is_neuron(trace.root, node) for node in trace.graph.nodes)
