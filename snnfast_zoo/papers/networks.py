"""Models of several independent networks: seeds, settings per network and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from snnfast import check

R = TypeVar("R")
V = TypeVar("V")
Setting = float | Sequence[float]  # one value for all networks, or one per network


def seeds_of(name: str, networks: object, seeds: object) -> Sequence[int] | None:
    """Check ``networks`` and ``seeds`` of the model ``name``; return one seed per network, None without networks."""
    if networks is None:
        if seeds is not None:
            raise ValueError(f"{name}: seeds need networks, got networks=None")
        return None
    count = check.integer(name, "networks", networks)
    if seeds is None:
        return range(torch.initial_seed(), torch.initial_seed() + count)
    if isinstance(seeds, str) or not isinstance(seeds, Sequence):
        raise TypeError(f"{name}: seeds must be a sequence of integers, got {type(seeds).__name__}")
    if len(seeds) != count:
        raise ValueError(f"{name}: seeds must be {count}, one a network, got {len(seeds)}")
    return [check.integer(name, "seeds", seed, 0) for seed in seeds]


def setting_of(value: Setting, k: int) -> float:
    """Return the setting of network ``k``."""
    return value[k] if isinstance(value, Sequence) else value


def shared_or_list(values: list[V]) -> V | list[V]:
    """Return the value that all networks share, or the list of their values where they differ."""
    return values if any(value != values[0] for value in values) else values[0]


class Draws:
    """Random numbers from PyTorch's CPU generator, for each network the same as if it were alone.

    Args:
        seeds: seed of each network, as for ``torch.manual_seed``; None: a single network without a seed.
    """

    def __init__(self, seeds: Sequence[int] | None) -> None:
        self._seeds = seeds
        self._states: list[Tensor] = []

    def per_network(self, draw: Callable[[int], R]) -> list[R]:
        """Call ``draw(k)`` for each network ``k``, one after the other; ``draw(0)`` for a single network."""
        if self._seeds is None:
            return [draw(0)]
        results = []
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            for k, seed in enumerate(self._seeds):
                if k < len(self._states):
                    torch.set_rng_state(self._states[k])
                else:  # not earlier: memory might not hold all networks
                    self._states.append(torch.empty(0))
                    torch.default_generator.manual_seed(seed % 2**64)
                results.append(draw(k))
                self._states[k] = torch.get_rng_state()
        return results

    def __call__(self, draw: Callable[[int], Tensor]) -> Tensor:
        """Return the results of :meth:`per_network`, stacked along a first dimension if there are several networks."""
        results = self.per_network(draw)
        return results[0] if self._seeds is None else torch.stack(results)
