"""The methods that n3ml's manual calls, over those of the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class _StepByStep(Protocol):
    def reset(self) -> None: ...
    def step(self, spikes: Tensor) -> None: ...
    def learn(self) -> None: ...


class StdpCalls:
    """The calls of the manual's STDP loop."""

    def init_param(self: _StepByStep) -> None:
        """``reset()``."""
        self.reset()

    def run(self: _StepByStep, inputs: Mapping[str, Tensor]) -> None:
        """``step(spikes)`` of ``{"inp": spikes}``."""
        if not isinstance(inputs, Mapping):
            raise TypeError(
                f"DiehlAndCook2015: run takes {{'inp': spikes}}, got {type(inputs).__name__}"
            )
        if set(inputs) != {"inp"}:
            raise ValueError(
                f"DiehlAndCook2015: run takes {{'inp': spikes}}, got the names {sorted(inputs)}"
            )
        self.step(inputs["inp"])

    def update(self: _StepByStep) -> None:
        """``learn()``."""
        self.learn()


class _Layered(Protocol):
    def draw_weights(self, low: float, high: float) -> None: ...


class SpikePropCalls:
    """The call of the manual's SpikeProp script."""

    def initialize(self: _Layered, delay: bool = True) -> None:
        """``draw_weights(0.02, 0.1)``, n3ml's weights.

        ``delay`` is taken and does nothing: the delays are the paper's 1, 2, ..., 16 ms, where n3ml draws whole numbers
        from 0 to 9, the same for all neurons and some of them twice. Without this call weights have both signs, which
        learns better; see :class:`snnfast.nn.SpikeProp` and :meth:`snnfast.model.Bohte2002.calibrate`.
        """
        self.draw_weights(0.02, 0.1)
