"""Encoders with the names and arguments of n3ml's manual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from snnfast import check
from snnfast.encoder.bernoulli import BernoulliEncoder
from snnfast.encoder.population import PopulationEncoder
from snnfast.encoder.regular import number_of_steps


class Simple(BernoulliEncoder):
    """:class:`BernoulliEncoder` with n3ml's name and arguments.

    Args:
        time_interval: number of steps, ``num_steps`` of the class.
        scale: as in the class, like the other arguments.
    """

    def __init__(self, time_interval: int = 100, scale: float = 5.0, **options: Any) -> None:
        super().__init__(number_of_steps("Simple", "time_interval", time_interval), scale, **options)


class Population(PopulationEncoder):
    """:class:`PopulationEncoder` with n3ml's name and arguments.

    Args:
        neurons: as in the class, like ``minimum``, ``maximum`` and the other arguments.
        max_firing_time: ``t_max`` of the class.
        not_to_fire: ``silent_from`` of the class.
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
        """Return spike times of values, -1 for neurons that do not fire."""
        t: Tensor = self(x)
        return t.masked_fill_(t.isinf(), -1)
