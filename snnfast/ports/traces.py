"""The trace of a ``forward`` with its loop unrolled, and whether two of them are the same: :func:`unrolled`."""

from __future__ import annotations

import copy
import inspect
from itertools import zip_longest
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from snnfast.nn.tracer import place

from .port import Looping
from .unrolling import LINE, Node, Unrolling, line_of_error, shown

__all__ = ["CONSTANT", "copied", "difference", "is_neuron", "may_be_none", "refuse_at", "unrolled"]

# How torch.fx names the tensors that forward makes.
CONSTANT = "_tensor_constant"


def copied(net: nn.Module) -> nn.Module:
    """A copy with the parameters of ``net``."""
    return copy.deepcopy(net, {id(parameter): parameter for parameter in net.parameters()})


def unrolled(net: nn.Module, steps: int, *, training: bool | None = None, left_out: bool = False) -> Unrolling:
    """The trace of a copy of ``net``.

    Args:
        net: the network.
        steps: how often a loop over the steps of the input is unrolled.
        training: in training mode or not; None: as ``net`` is.
        left_out: arguments whose default is None are None.

    Raises:
        ValueError: where torch.fx cannot follow ``forward``, or ``forward`` keeps something in an attribute.
    """
    traced = copied(net)
    if training is not None:
        traced.train(training)
    tracer = Unrolling(steps)
    for name, module in traced.named_modules():
        if isinstance(module, Looping):
            _forget(name, module, tracer)
    before = {name: _attributes(module) for name, module in traced.named_modules()}
    start = f"replace: the forward of {type(net).__name__} cannot be followed: "
    try:
        # forward may leave them switched off.
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            tracer.trace(traced, dict.fromkeys(may_be_none(net)) if left_out else None)
    except Exception as error:  # whatever forward does with values that are not there
        where = line_of_error(error.__traceback__)
        raise ValueError(f"{start}{type(error).__name__}: {error}{where}") from error
    for name, module in traced.named_modules():
        was = before[name]
        for key, value in _attributes(module).items():
            if key not in was or value is not was[key] or _has_proxy(value):
                raise ValueError(f"{start}it keeps {key} in {name or 'the network'}, which the copy would not do")
    for node in list(tracer.graph.nodes):
        node.meta.pop("is_wrapped", None)
        if getattr(node.target, "__name__", "") == "_assert_is_none":  # of what is left out
            tracer.graph.erase_node(node)
    return tracer


class _Unknown:
    """A neuron's state while ``forward`` is traced: it is another at each step."""


def _forget(name: str, neuron: Any, tracer: Unrolling) -> None:
    """A neuron that tells the tracer of its resets, and whose states are not known."""
    for state in neuron.states:
        setattr(neuron, state, _Unknown())
    neuron.reset = lambda: tracer.resets[name].append(tracer.calls[name])


def may_be_none(net: nn.Module) -> list[str]:
    """The arguments of ``forward`` whose default is None."""
    parameters = inspect.signature(net.forward).parameters.values()
    return [p.name for p in parameters if p.default is None]


def difference(first: fx.Graph, second: fx.Graph, roots: tuple[nn.Module, nn.Module]) -> Node | None:
    """Where two graphs do not do the same, with the same constants; None if they do.

    Args:
        first: a graph.
        second: another.
        roots: what the tensors that forward makes are attributes of, one for each graph.
    """
    places: dict[Node, str] = {}
    for count, (a, b) in enumerate(zip_longest(first.nodes, second.nodes)):
        if a is None or b is None:
            return a or b
        places[a] = places[b] = f"%{count}"
        if _described(a, places) != _described(b, places):
            return b
        if a.op == "get_attr" and a.target.startswith(CONSTANT):
            x, y = (getattr(root, a.target) for root in roots)
            if x.dtype != y.dtype or not torch.equal(x, y):
                return b
    return None


def is_neuron(root: nn.Module, node: Node) -> bool:
    """Whether a node calls a neuron."""
    return node.op == "call_module" and isinstance(root.get_submodule(node.target), Looping)


def refuse_at(net: nn.Module, node: Node, why: str) -> NoReturn:
    """Says where the loop of ``net`` cannot be taken apart, and why."""
    raise ValueError(
        f"replace: the loop in the forward of {type(net).__name__} cannot be taken apart at "
        f"{node.target if node.op == 'call_module' else place(node)}: {why}{shown(node.meta.get(LINE))}"
    )


def _described(node: Node, places: dict[Node, str]) -> tuple[Any, ...]:
    arguments = fx.node.map_arg((node.args, node.kwargs), places.__getitem__)
    # torch.fx renames inputs that are left out.
    return node.op, None if node.op == "placeholder" else node.target, repr(arguments)


def _attributes(module: nn.Module) -> dict[str, Any]:
    own = {k: v for k, v in vars(module).items() if not k.startswith(CONSTANT)}
    return own | module._buffers


def _has_proxy(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return any(map(_has_proxy, value.values() if isinstance(value, dict) else value))
    return isinstance(value, fx.Proxy) and not isinstance(value, Tensor)
