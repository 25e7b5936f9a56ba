"""Warning for a network that takes samples for time steps: :func:`watch_steps`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["StepsSeen", "watch_steps"]


class StepsSeen:
    """Shape of the sequence that the first neuron of a network takes, with which those of the others are compared."""

    def __init__(self) -> None:
        self.first, self.warned = "", False
        self.shape: tuple[int, ...] = ()

    def see(self, name: str, shape: Sequence[int]) -> None:
        """Warn once if the neuron ``name`` takes another number of steps than the first one."""
        if self.warned or torch.compiler.is_compiling():
            return
        if not self.shape or name == self.first:
            self.first, self.shape = name, tuple(shape)
        elif shape[0] != self.shape[0]:
            self.warned = True
            steps, samples = self.shape[:2]
            folded = shape[0] == steps * samples
            why = f": it takes the {samples} samples of {steps} steps for {shape[0]} steps" if folded else ""
            warnings.warn(
                f"{name} takes {list(shape)}, time first, where {self.first} takes {list(self.shape)}{why}. All "
                "neurons of a network take the same steps; undo flatten(0, 1) before it",
                stacklevel=5,
            )


def watch_steps(net: nn.Module) -> None:
    """Let the neurons of ``net`` that :mod:`snnfast.ports` made compare their numbers of steps."""
    seen = StepsSeen()
    for name, module in net.named_modules():
        if hasattr(module, "steps_seen"):
            module.steps_seen = seen, name or "net"
