"""Cycles of a NIR graph: neurons whose spikes come back to them through a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from snnfast.nn import Recurrent
from snnfast.nn.spiking import Spiking

from .layers import Offset, Scale
from .scheme import Steps

__all__ = ["Cycle", "cycles_of", "recurrent"]

# What a cycle may have one of, by the names of NIR's nodes.
_PARTS = {
    "neuron": ("IF", "LIF", "CubaLIF"),
    "product": ("Linear", "Affine", "Scale"),
    "delay": ("Delay",),
}


class Cycle(NamedTuple):
    """Neurons, the product through which their spikes come back, and the delay before it, by name."""

    neuron: str
    product: str | None
    delay: str | None


def cycles_of(
    kinds: Mapping[str, str], sources: dict[str, list[str]], passes: Sequence[str]
) -> dict[str, Cycle]:
    """The cycles by the name of their neurons; takes them out of ``sources``.

    Args:
        kinds: of the nodes, by name.
        sources: what leads to each node.
        passes: nodes that pass on what they get, as the ends of inner graphs do.

    Raises:
        ValueError: for a cycle of anything else, by name.
    """
    found = {}
    for members in _strongly_connected(sources):
        for name in [n for n in passes if n in members]:
            _contract(name, sources)
            members.discard(name)
        of = {kind: [n for n in members if kinds[n] in names] for kind, names in _PARTS.items()}
        neurons, products, delays = of["neuron"], of["product"], of["delay"]
        cycle = Cycle(*(next(iter(names), None) for names in of.values()))  # type: ignore[arg-type]
        way = [name for name in (cycle.neuron, cycle.delay, cycle.product) if name is not None]
        fed = {name: [n for n in sources if name in sources[n]] for name in way}
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
    """``neuron``, as the graph has it alone, with its cycle.

    Spikes come back a step later, as in every tool with steps, and by the graph's delay besides.

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
    bias = getattr(nodes.get(name), "bias", None)
    if bias is not None and np.any(bias):
        parts.insert(0, Offset(torch.as_tensor(np.array(bias, np.float32)).expand(size)))
    for part in parts:
        if isinstance(part, Scale):
            weight = part.scale.expand(size)[:, None] * weight
    made = Recurrent(layer, size, weight=weight, delay=_delay(cycle, nodes, size, steps))
    return nn.Sequential(*parts, made) if parts else made


def _weight(cycle: Cycle, nodes: Mapping[str, Any]) -> Tensor:
    """From neuron ``j`` to neuron ``i`` at ``[i, j]``; what is no matrix is its diagonal."""
    neurons = np.ones_like(nodes[cycle.neuron].v_threshold, np.float32).ravel()
    if cycle.product is None:
        return torch.diag(torch.from_numpy(neurons))
    node = nodes[cycle.product]
    if type(node).__name__ == "Scale":
        return torch.diag(torch.from_numpy(np.ravel(neurons * np.float32(node.scale))))
    return torch.from_numpy(np.array(node.weight, np.float32))


def _delay(cycle: Cycle, nodes: Mapping[str, Any], size: int, steps: Steps) -> Tensor | None:
    if cycle.delay is None:
        return None
    each = np.asarray(nodes[cycle.delay].delay, np.float64) / steps.dt
    if each.size not in (1, size):
        raise ValueError(
            f"from_nir: {cycle.delay} must have {size} delays, one for each neuron of {cycle.neuron}, got {each.size}"
        )
    return torch.from_numpy(np.broadcast_to(each.ravel(), (size,)).astype(np.float32))


def _contract(name: str, sources: dict[str, list[str]]) -> None:
    """Whoever ``name`` leads to gets what leads to ``name``."""
    before = sources.pop(name)
    for node, given in sources.items():
        if name in given:
            sources[node] = [s for one in given for s in (before if one == name else [one])]


def _strongly_connected(sources: Mapping[str, Sequence[str]]) -> list[set[str]]:
    """Nodes that reach each other, and those that feed themselves."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        left = list(sources[start])
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += sources[name]
        return found

    behind = {name: reached(name) for name in sources}
    cyclic = [name for name in sources if name in behind[name]]
    groups: list[set[str]] = []
    for name in cyclic:
        if not any(name in group for group in groups):
            groups.append(
                {other for other in cyclic if name in behind[other] and other in behind[name]}
            )
    return groups
