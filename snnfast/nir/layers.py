"""Modules for nodes of NIR that :mod:`snnfast.nn` lacks, all over ``[T, B, ...]``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from snnfast.nn import LI, LIF
from snnfast.nn.scale import Scale
from snnfast.nn.sum_pool2d import SumPool2d

__all__ = ["Graph", "Offset", "Scale", "SumPool2d", "Threshold", "TwoLI"]


class Offset(nn.Module):
    """``y = x + offset``, element by element; ``offset`` broadcasts to ``x.shape[1:]`` and is a buffer."""

    offset: Tensor

    def __init__(self, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("offset", offset.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, ...]`` -> the same."""
        return x + self.offset

    def extra_repr(self) -> str:
        """Return its shape."""
        return f"offset={list(self.offset.shape)}"


class Threshold(LIF):
    """Spikes where ``x > threshold``, with the surrogate gradient of :class:`snnfast.nn.LIF`, without a state."""

    def __init__(self, threshold: float | Tensor) -> None:
        super().__init__(decay=0.0, decay_input=False, v_threshold=threshold, strict=True)


class TwoLI(nn.Sequential):
    """A leaky integrator of an exponential synaptic current: two :class:`snnfast.nn.LI`, current and membrane.

    Args:
        current: ``i[t] = decay_syn i[t-1] + gain x[t]``.
        membrane: ``v[t] = v_rest + decay (v[t-1] - v_rest) + gain i[t]``.
    """

    def __init__(self, current: LI, membrane: LI) -> None:
        super().__init__(current, membrane)


class Graph(nn.Module):
    """Acyclic graph of modules; the input of a module is the sum of its sources.

    Args:
        modules: modules by name, in any order.
        sources: names of the sources of each module; ``""`` is the input.
        output: name of the module whose output is that of the graph.
    """

    def __init__(self, modules: Mapping[str, nn.Module], sources: Mapping[str, Sequence[str]], output: str) -> None:
        super().__init__()
        self.sources = {name: tuple(sources[name]) for name in sorted_by_need(sources)}
        self.output = output
        keys = {name: _key(name) for name in self.sources}
        self.keys = keys
        self.nodes = nn.ModuleDict({keys[name]: modules[name] for name in self.sources})

    def forward(self, x: Tensor) -> Any:
        """``[T, B, ...]`` -> ``[T, B, ...]``."""
        values = {"": x}
        for name, sources in self.sources.items():
            total = values[sources[0]]
            for source in sources[1:]:
                total = total + values[source]
            values[name] = self.nodes[self.keys[name]](total)
        return values[self.output]


def sorted_by_need(sources: Mapping[str, Sequence[str]]) -> list[str]:
    """Return names in topological order: each after its sources.

    Raises:
        ValueError: if there is a cycle.
    """
    missing = {name: sum(s != "" for s in before) for name, before in sources.items()}
    fed = defaultdict(list)
    for name, before in sources.items():
        for source in before:
            fed[source].append(name)
    position = {name: i for i, name in enumerate(sources)}
    done: list[str] = []
    ready = [name for name in sources if not missing[name]]
    while ready:
        done += ready
        freed = []
        for name in ready:
            for after in fed[name]:
                missing[after] -= 1
                if not missing[after]:
                    freed.append(after)
        ready = sorted(freed, key=position.__getitem__)
    if remaining := [name for name in sources if missing[name]]:
        raise ValueError(f"the nodes {', '.join(remaining)} feed each other in a cycle")
    return done


def _key(name: str) -> str:
    # Names of modules have no dot, and must not be attributes of ModuleDict.
    key = name.replace(".", "_")
    return f"{key}_" if hasattr(nn.ModuleDict, key) or not key else key
