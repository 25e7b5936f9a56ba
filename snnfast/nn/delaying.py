"""Base of the layers with delays: inputs in transit between two calls, and learned delays."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check

from .state import Stateful

__all__ = ["Delaying", "FeedingBack"]


class Delaying(Stateful):
    """Base of the layers whose state is the input that has not arrived yet.

    Attributes:
        past: input in transit, ``[P, *x.shape[1:]]``, the latest step last; None at rest.
        max_delay: the longest delay that is learned, in steps.
        d: the parameter that learns delays, one a channel.
    """

    states = ("past",)
    past: Tensor | None
    max_delay: float
    d: nn.Parameter | None

    def _learned_delays(self, d: nn.Parameter) -> Tensor:
        """``d`` clamped to 0 ... ``max_delay``.

        The gradient passes the clamp, so that a delay that has left the range can come back.
        """
        most = check.at_least_zero(type(self).__name__, "max_delay", self.max_delay)
        return d.detach().clamp(0.0, most) + (d - d.detach())

    @abstractmethod
    def _longest(self) -> int:
        """Return the largest number of steps that an input may be in transit."""

    def _keep_past(self, past: Tensor | None, x: Tensor, longest: int) -> None:
        """Keep the last ``longest`` steps of ``past`` and, after it, ``x``."""
        sequence = x if past is None or len(x) >= longest else torch.cat([past, x])
        self._store_states(sequence[-longest:].clone())

    def _state_shape(self, value: Tensor, x: Tensor) -> tuple[int, ...]:
        return (value.shape[0], *x.shape[1:])


class FeedingBack(Delaying):
    """Base of the layers that feed the spikes of their neurons back: the neurons' state is theirs, too.

    Attributes:
        neuron: the layer of neurons.
    """

    neuron: Stateful

    @property
    def stateful(self) -> bool:
        """Return whether the neurons' states and the spikes in transit are kept between calls."""
        return self.neuron.stateful

    @stateful.setter
    def stateful(self, value: bool) -> None:
        if "neuron" in self._modules:  # not yet, inside of super().__init__
            self.neuron.stateful = check.flag(type(self).__name__, "stateful", value)

    @property
    def surrogate(self) -> Any:  # type: ignore[override]
        """The surrogate gradient of the neurons."""
        return self.neuron.surrogate

    def reset(self) -> None:
        """Reset the state, also that of the neurons: the next call starts at rest, with any batch size."""
        super().reset()
        if "neuron" in self._modules:
            self.neuron.reset()

    def detach(self) -> None:
        """Keep the values of the state and drop its graph."""
        super().detach()
        self.neuron.detach()
