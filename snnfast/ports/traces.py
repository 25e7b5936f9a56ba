"""Traces of a ``forward`` with its loop unrolled, and their comparison: :func:`unrolled`, :func:`difference`."""

from __future__ import annotations

import copy
import inspect
from itertools import zip_longest
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from snnfast.nn.tracer import place

from .port import Looping
from .scripts import followed_scripts
from .unrolling import LINE, Node, Unrolling, line_of_error, shown

__all__ = ["CONSTANT", "copied", "difference", "is_neuron", "may_be_none", "refuse_at", "unrolled"]

# Prefix of torch.fx for the names of tensors that forward creates.
CONSTANT = "_tensor_constant"


def copied(net: nn.Module) -> nn.Module:
    """Return a copy that shares the parameters of ``net``."""
    return copy.deepcopy(net, {id(parameter): parameter for parameter in net.parameters()})


def unrolled(net: nn.Module, steps: int, *, training: bool | None = None, left_out: bool = False) -> Unrolling:
    """Trace a copy of ``net``.

    Args:
        net: the network.
        steps: number of steps to which a loop over the input is unrolled.
        training: trace in training mode or not; None: in the mode of ``net``.
        left_out: arguments whose default is None are None.

    Raises:
        ValueError: if torch.fx cannot follow ``forward``, or ``forward`` sets an attribute.
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
        # forward may leave gradients switched off.
        with torch.set_grad_enabled(torch.is_grad_enabled()), followed_scripts():
            tracer.trace(traced, dict.fromkeys(may_be_none(net)) if left_out else None)
    except Exception as error:  # forward may raise anything when it computes with proxies
        where = line_of_error(error.__traceback__)
        raise ValueError(f"{start}{type(error).__name__}: {error}{where}") from error
    for name, module in traced.named_modules():
        was = before[name]
        for key, value in _attributes(module).items():
            if key not in was or value is not was[key] or _has_proxy(value):
                raise ValueError(f"{start}it keeps {key} in {name or 'the network'}, which the copy would not do")
    for node in list(tracer.graph.nodes):
        node.meta.pop("is_wrapped", None)
        if getattr(node.target, "__name__", "") == "_assert_is_none":  # a check of an argument that is left out
            tracer.graph.erase_node(node)
    return tracer


class _Unknown:
    """Placeholder for a neuron's state while ``forward`` is traced: it changes at each step."""


def _forget(name: str, neuron: Any, tracer: Unrolling) -> None:
    """Make a neuron report its resets to the tracer, and hide its states."""
    for state in neuron.states:
        setattr(neuron, state, _Unknown())
    neuron.reset = lambda: tracer.resets[name].append(tracer.calls[name])


def may_be_none(net: nn.Module) -> list[str]:
    """Return the arguments of ``forward`` whose default is None."""
    parameters = inspect.signature(net.forward).parameters.values()
    return [p.name for p in parameters if p.default is None]


def difference(first: fx.Graph, second: fx.Graph, roots: tuple[nn.Module, nn.Module]) -> Node | None:
    """Return the first node at which two graphs or their constants differ; None if they are equal.

    Args:
        first: a graph.
        second: another.
        roots: the modules of both graphs, whose attributes are the tensors that forward creates.
    """
    positions: dict[Node, str] = {}
    for count, (a, b) in enumerate(zip_longest(first.nodes, second.nodes)):
        if a is None or b is None:
            return a or b
        positions[a] = positions[b] = f"%{count}"
        if _described(a, positions) != _described(b, positions):
            return b
        if a.op == "get_attr" and a.target.startswith(CONSTANT):
            x, y = (getattr(root, a.target) for root in roots)
            if x.dtype != y.dtype or not torch.equal(x, y):
                return b
    return None


def is_neuron(root: nn.Module, node: Node) -> bool:
    """Return whether a node calls a neuron."""
    return node.op == "call_module" and isinstance(root.get_submodule(node.target), Looping)


def refuse_at(net: nn.Module, node: Node, why: str) -> NoReturn:
    """Raise an error that says where the loop of ``net`` cannot be taken apart, and why."""
    raise ValueError(
        f"replace: the loop in the forward of {type(net).__name__} cannot be taken apart at "
        f"{node.target if node.op == 'call_module' else place(node)}: {why}{shown(node.meta.get(LINE))}"
    )


def _described(node: Node, positions: dict[Node, str]) -> tuple[Any, ...]:
    arguments = fx.node.map_arg((node.args, node.kwargs), positions.__getitem__)
    # torch.fx renames inputs that are left out.
    return node.op, None if node.op == "placeholder" else node.target, repr(arguments)


def _attributes(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, torch.jit.ScriptModule):  # its calls set attributes, and are refused later
        return {}
    attributes = {k: v for k, v in vars(module).items() if not k.startswith(CONSTANT)}
    return attributes | module._buffers


def _has_proxy(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return any(map(_has_proxy, value.values() if isinstance(value, dict) else value))
    return isinstance(value, fx.Proxy) and not isinstance(value, Tensor)
