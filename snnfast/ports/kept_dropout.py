"""SpikingJelly's dropout in a loop over steps, whose mask is the same at all of them: :class:`KeptDropout`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast.nn.library import library_of
from snnfast.nn.state import Stateful

from .port import Looping

__all__ = ["KeptDropout", "keep_dropouts"]


class KeptDropout(Looping, Stateful):
    """Dropout with one mask for all steps, until a reset.

    Args:
        layer: ``layer.Dropout`` or ``layer.Dropout2d`` of SpikingJelly, which takes a step a call.
    """

    states, saved, fires, time_dim = ("mask",), False, False, None
    states_optional = returns_output_only = True
    names_of_states = state_results = ()
    every_step = (0,)
    mask: Tensor | None

    def __init__(self, layer: Any) -> None:
        super().__init__(stateful=True)
        self.p = float(layer.p)
        self.drop = F.dropout2d if type(layer).__name__ == "Dropout2d" else F.dropout
        self.mask = layer.mask
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """Input of a step, or after :meth:`take_sequence` ``[T, B, ...]`` -> the same shape."""
        if not self.training:
            return x
        if not self.stateful:
            self.reset()
        if self.mask is None:
            self.mask = self.drop(torch.ones_like(x if self.time_dim is None else x[0]).detach(), self.p)
        return x * self.mask


def keep_dropouts(net: nn.Module) -> None:
    """Replace SpikingJelly's dropouts that take a step a call in ``net``."""
    for module in list(net.modules()):
        for name, child in module._modules.items():
            kind = type(child)
            known = kind.__name__ in ("Dropout", "Dropout2d") and library_of(kind) == "spikingjelly"
            if known and hasattr(child, "mask") and getattr(child, "step_mode", "s") == "s":
                module._modules[name] = KeptDropout(child)
