"""In which order a network calls its layers: :func:`order`."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from torch import Tensor, fx, nn

from .hooks import HOOKS, hooked
from .pooled import PooledSequential
from .sequential import Sequential
from .state import without_graphs
from .time import Time
from .tracer import Tracer

__all__ = ["Order", "order"]


class Order(NamedTuple):
    """Order in which a network calls its layers, as far as it is known.

    Attributes:
        before: the layer whose output each layer takes, if nothing else reads that output.
        uses: number of calls of each layer.
        read: parameters and buffers whose values ``forward`` itself reads.
        notes: remark to add to the message that a layer stays; empty where ``torch.fx`` traces ``forward``.
    """

    before: dict[nn.Module, nn.Module | None]
    uses: Counter[nn.Module]
    read: set[Tensor]
    notes: str


def order(net: nn.Module) -> Order:
    """Which layer comes right before each, inside of :class:`snnfast.nn.Time` and across it.

    Where ``torch.fx`` cannot follow ``forward``, only neighbours in ``nn.Sequential`` and ``Time`` are known.
    """
    before: dict[nn.Module, nn.Module | None] = {}
    uses: Counter[nn.Module] = Counter()
    # A copy is traced: layers of other libraries may keep what they are given.
    shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    traced = copy.deepcopy(net, without_graphs(net) | shared)
    for module in traced.modules():  # which are not called with what is not there
        for attribute in HOOKS:
            module.__dict__[attribute] = type(module.__dict__[attribute])()
    try:
        graph = Tracer().trace(traced)
    except Exception as error:  # whatever forward does with values that are not there
        chains = [list(_layers(m)) for m in net.modules() if isinstance(m, (nn.Sequential, Time))]
        before |= {after: first for chain in chains for first, after in pairwise(chain)}
        uses.update(module for _, module in net.named_modules(remove_duplicate=False))
        notes = f" (torch.fx cannot follow forward: {type(error).__name__}: {error})"
        return Order(before, uses, set(), notes)
    last: dict[fx.Node, tuple[nn.Module, str]] = {}
    read: set[Tensor] = set()
    for node in graph.nodes:
        if node.op == "get_attr" and not all(map(_asks_for_its_form, node.users)):
            read.add(attrgetter(str(node.target))(traced))
        if node.op != "call_module":
            continue
        chain = list(_layers(net.get_submodule(str(node.target))))
        uses.update(chain)
        source = node.args[0] if node.args else None
        first = None
        if isinstance(source, fx.Node) and len(source.users) == 1 and source in last:
            layer, name = last[source]
            first = None if _seen_leaving(net, name, str(node.target)) else layer
        before |= zip(chain, (first, *chain))
        last[node] = chain[-1], str(node.target)
    return Order(before, uses, read, "")


def _asks_for_its_form(node: fx.Node) -> bool:
    """Whether ``node`` is ``tensor.dtype`` and the like."""
    return node.target is getattr and node.args[1] in ("device", "dtype", "ndim", "shape")


def _seen_leaving(net: nn.Module, name: str, target: str) -> bool:
    """Whether a container with hooks lies around ``name``, but not around ``target``."""
    while "." in name:
        name = name.rpartition(".")[0]
        if not target.startswith(f"{name}.") and hooked(net.get_submodule(name)):
            return True
    return False


_CHAINS = (nn.Sequential, PooledSequential, Sequential)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that run one after the other in ``module``; it itself, if it is one."""
    if isinstance(module, Time):
        yield from _layers(module.layer)
    elif isinstance(module, nn.Sequential) and type(module) in _CHAINS and not hooked(module):
        for inner in module:
            yield from _layers(inner)
    else:
        yield module
