"""Encoders by the names and with the arguments of n3ml's manual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from snnfast import check
from snnfast.encoder.bernoulli import BernoulliEncoder
from snnfast.encoder.population import PopulationEncoder
from snnfast.encoder.regular import number_of_steps


class Simple(BernoulliEncoder):
    """:class:`BernoulliEncoder` as n3ml calls it.

    Args:
        time_interval: number of steps, its ``num_steps``.
        scale: as there, and so are the others.
    """

    def __init__(self, time_interval: int = 100, scale: float = 5.0, **options: Any) -> None:
        super().__init__(number_of_steps("Simple", "time_interval", time_interval), scale, **options)


class Population(PopulationEncoder):
    """:class:`PopulationEncoder` as n3ml calls it.

    Args:
        neurons: as there, and so are ``minimum``, ``maximum`` and the others.
        max_firing_time: its ``t_max``.
        not_to_fire: its ``silent_from``.
    """

    def __init__(
        self,
        neurons: int,
        minimum: Tensor | Sequence[float],
        maximum: Tensor | Sequence[float],
        max_firing_time: float,
        not_to_fire: float,
        *options: Any,
        **more: Any,
    ) -> None:
        latest = check.positive("Population", "max_firing_time", max_firing_time)
        silent_from = check.positive("Population", "not_to_fire", not_to_fire)
        super().__init__(neurons, minimum, maximum, latest, silent_from, *options, **more)

    def run(self, x: Tensor) -> Tensor:
        """Spike times of values, with -1 for silent neurons."""
        t: Tensor = self(x)
        return t.masked_fill_(t.isinf(), -1)
