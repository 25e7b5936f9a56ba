"""Cycles of a NIR graph: neurons with recurrent connections through a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from snnfast.nn import Recurrent
from snnfast.nn.spiking import Spiking

from .layers import Offset, Scale
from .scheme import Steps, delays_of, numbers

__all__ = ["Cycle", "cycles_of", "recurrent"]

# A cycle may have one node of each of these, by NIR's names.
_PARTS = {"neuron": ("IF", "LIF", "CubaLIF"), "product": ("Linear", "Affine", "Scale"), "delay": ("Delay",)}


class Cycle(NamedTuple):
    """Names of neurons, of the product of their recurrent connections, and of the delay before it."""

    neuron: str
    product: str | None
    delay: str | None


def cycles_of(kinds: Mapping[str, str], sources: dict[str, list[str]], passes: Sequence[str]) -> dict[str, Cycle]:
    """Find the cycles, by the name of their neurons, and remove them from ``sources``.

    Args:
        kinds: kinds of the nodes, by name.
        sources: predecessors of each node.
        passes: nodes that pass their input on, such as the ends of inner graphs.

    Raises:
        ValueError: for a cycle of other nodes, by name.
    """
    found = {}
    fed: dict[str, list[str]] = {name: [] for name in sources}
    for name, before in sources.items():
        for source in dict.fromkeys(before):
            fed[source].append(name)
    passing = set(passes)
    for members in _strongly_connected(sources, fed):
        for name in sorted(members & passing):
            _contract(name, sources, fed)
            members.discard(name)
        parts = {kind: [n for n in members if kinds[n] in names] for kind, names in _PARTS.items()}
        neurons, products, delays = parts["neuron"], parts["product"], parts["delay"]
        cycle = Cycle(*(next(iter(names), None) for names in parts.values()))  # type: ignore[arg-type]
        way = [name for name in (cycle.neuron, cycle.delay, cycle.product) if name is not None]
        closed = len(way) == len(members) and len(neurons) == 1 and len(products + delays) <= 2
        around = list(zip(way, [*way[1:], way[0]]))
        if (
            not closed
            or any(a not in sources[b] for a, b in around)
            or any(sources[name] != [before] for before, name in around[:-1])
            or any(fed[name] != [after] for name, after in around[1:])
        ):
            raise ValueError(
                f"the nodes {', '.join(sorted(members))} feed each other in a cycle; there is an equal for "
                "neurons whose spikes come back to them through one Linear, Affine or Scale, and a Delay before it"
            )
        sources[cycle.neuron].remove(way[-1])
        for name in way[1:]:
            del sources[name]
        found[cycle.neuron] = cycle
    return found


def recurrent(neuron: nn.Module, cycle: Cycle, nodes: Mapping[str, Any], steps: Steps) -> nn.Module:
    """Return ``neuron``, the module without the cycle, with its recurrent connections.

    Recurrent spikes arrive a step later, as in every tool with discrete time, plus the delay of the graph.

    Raises:
        ValueError: for weights and delays of another shape.
    """
    parts = list(neuron) if isinstance(neuron, nn.Sequential) else [neuron]
    layer = parts.pop()
    assert isinstance(layer, Spiking)
    name = cycle.product or cycle.neuron
    weight = _weight(cycle, nodes)
    size = len(weight)
    if weight.shape != (size, size) or np.size(nodes[cycle.neuron].v_threshold) not in (1, size):
        raise ValueError(
            f"from_nir: {name} must have a weight of as many rows and columns as {cycle.neuron} has neurons, got "
            f"{list(weight.shape)}"
        )
    if hasattr(nodes[name], "bias"):
        bias = numbers(name, nodes[name], "bias").astype(np.float32)
        if bias.any():
            parts.insert(0, Offset(torch.from_numpy(bias).expand(size)))
    for part in parts:
        if isinstance(part, Scale):
            weight = part.scale.expand(size)[:, None] * weight
    result = Recurrent(layer, size, weight=weight, delay=_delay(cycle, nodes, size, steps))
    return nn.Sequential(*parts, result) if parts else result


def _weight(cycle: Cycle, nodes: Mapping[str, Any]) -> Tensor:
    """Return the weights, from neuron ``j`` to neuron ``i`` at ``[i, j]``; a scale becomes a diagonal matrix."""
    threshold = numbers(cycle.neuron, nodes[cycle.neuron], "v_threshold")
    neurons = np.ones_like(threshold, np.float32).ravel()
    if cycle.product is None:
        return torch.diag(torch.from_numpy(neurons))
    node = nodes[cycle.product]
    if type(node).__name__ == "Scale":
        scale = numbers(cycle.product, node, "scale").astype(np.float32)
        return torch.diag(torch.from_numpy(np.ravel(neurons * scale)))
    return torch.from_numpy(numbers(cycle.product, node, "weight").astype(np.float32))


def _delay(cycle: Cycle, nodes: Mapping[str, Any], size: int, steps: Steps) -> Tensor | None:
    if cycle.delay is None:
        return None
    delays = delays_of(cycle.delay, nodes[cycle.delay]) / steps.dt
    if delays.size not in (1, size):
        raise ValueError(
            f"from_nir: {cycle.delay} must have {size} delays, one for each neuron of {cycle.neuron}, got {delays.size}"
        )
    return torch.from_numpy(np.broadcast_to(delays.ravel(), (size,)).astype(np.float32))


def _contract(name: str, sources: dict[str, list[str]], fed: dict[str, list[str]]) -> None:
    """Remove node ``name``: connect its predecessors to its successors."""
    before, after = sources.pop(name), fed.pop(name)
    for node in after:
        if node != name:
            sources[node] = [s for old in sources[node] for s in (before if old == name else [old])]
    for source in dict.fromkeys(before):
        if source != name:
            fed[source] = list(dict.fromkeys([*fed[source], *after]))
            fed[source].remove(name)


def _strongly_connected(sources: Mapping[str, Sequence[str]], fed: Mapping[str, Sequence[str]]) -> list[set[str]]:
    """Return the strongly connected components with a cycle, in linear time by Kosaraju's algorithm.

    Args:
        sources: predecessors of each node.
        fed: successors of each node.
    """
    order: list[str] = []  # post-order of the depth-first search
    seen: set[str] = set()
    for start in sources:
        if start in seen:
            continue
        seen.add(start)
        path = [(start, iter(sources[start]))]
        while path:
            name, remaining = path[-1]
            following = next((n for n in remaining if n not in seen), None)
            if following is None:
                order.append(name)
                path.pop()
            else:
                seen.add(following)
                path.append((following, iter(sources[following])))
    groups: list[set[str]] = []
    grouped: set[str] = set()
    for start in reversed(order):
        if start in grouped:
            continue
        group, waiting = {start}, [start]
        grouped.add(start)
        while waiting:
            new = [n for n in fed[waiting.pop()] if n not in grouped]
            group.update(new)
            grouped.update(new)
            waiting += new
        if len(group) > 1 or start in sources[start]:
            groups.append(group)
    return groups
