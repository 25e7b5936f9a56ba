"""Models of many networks that know nothing of each other: how many, and the random numbers of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from snnfast import check

R = TypeVar("R")
V = TypeVar("V")
Setting = float | Sequence[float]  # of all networks, or one a network


def seeds_of(name: str, networks: object, seeds: object) -> Sequence[int] | None:
    """The arguments ``networks`` and ``seeds`` of the model ``name``, checked: a seed a network; None: of one alone."""
    if networks is None:
        if seeds is not None:
            raise ValueError(f"{name}: seeds need networks, got networks=None")
        return None
    count = check.whole(name, "networks", networks)
    if seeds is None:
        return range(torch.initial_seed(), torch.initial_seed() + count)
    if isinstance(seeds, str) or not isinstance(seeds, Sequence):
        raise TypeError(f"{name}: seeds must be a sequence of integers, got {type(seeds).__name__}")
    if len(seeds) != count:
        raise ValueError(f"{name}: seeds must be {count}, one a network, got {len(seeds)}")
    return [check.whole(name, "seeds", seed, 0) for seed in seeds]


def own(value: Setting, k: int) -> float:
    """Return the setting of network ``k``."""
    return value[k] if isinstance(value, Sequence) else value


def one_or_each(values: list[V]) -> V | list[V]:
    """Return the value that all networks share, or the list of their values where they differ."""
    return values if any(value != values[0] for value in values) else values[0]


class Draws:
    """Random numbers from PyTorch's CPU generator: of several networks each as it would find that alone.

    Args:
        seeds: that ``torch.manual_seed`` was given for each network; None: there is one, and nobody set it.
    """

    def __init__(self, seeds: Sequence[int] | None) -> None:
        self._seeds = seeds
        self._states: list[Tensor] = []

    def each(self, draw: Callable[[int], R]) -> list[R]:
        """``draw(k)`` for each network ``k``, one after the other; of one alone ``draw(0)``."""
        if self._seeds is None:
            return [draw(0)]
        made = []
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            for k, seed in enumerate(self._seeds):
                if k < len(self._states):
                    torch.set_rng_state(self._states[k])
                else:  # not before it is known that memory holds so many networks
                    self._states.append(torch.empty(0))
                    torch.default_generator.manual_seed(seed % 2**64)
                made.append(draw(k))
                self._states[k] = torch.get_rng_state()
        return made

    def __call__(self, draw: Callable[[int], Tensor]) -> Tensor:
        """Return the draws of :meth:`each`, stacked along a first dimension of networks if there are several."""
        made = self.each(draw)
        return made[0] if self._seeds is None else torch.stack(made)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Restore the random-number states of networks with seeds on exit."""
        states = list(self._states)
        try:
            yield
        finally:
            self._states = states
