"""Sinabs' spike functions, resets and surrogate gradients as what an op takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnfast import surrogate

from .port import refuse

__all__ = ["Functions", "SpikeFunction"]


class SpikeFunction:
    """Spikes at the threshold with one of Sinabs' surrogate gradients, which look at membrane and threshold."""

    def __init__(self, gradient: Callable[[Tensor, Any], Tensor], threshold: Any) -> None:
        self.gradient, self.threshold = gradient, threshold

    def __call__(self, u: Tensor) -> Tensor:
        """Spikes of ``u = h - v_threshold``."""
        return surrogate.spike(u, self)

    def derivative(self, u: Tensor) -> Tensor:
        """``ds/du`` at ``u``."""
        threshold = torch.as_tensor(self.threshold, dtype=u.dtype, device=u.device)
        return self.gradient(u + threshold, threshold)


class Functions:
    """Sinabs' functions of a layer as arguments of an op. They and the threshold may be set or loaded at any time.

    Attributes:
        at_rest: the name of the threshold without adaptation.
    """

    at_rest: ClassVar[str] = "spike_threshold"
    spike_fn: Any
    reset_fn: Any
    surrogate_grad_fn: Any

    def check_functions(self, where: str) -> None:
        """Refuses functions that are not Sinabs'."""
        _spikes_a_step(where, self.spike_fn)
        kind = type(self.reset_fn).__name__
        if self.spike_fn is not None and kind not in ("MembraneReset", "MembraneSubtract"):
            refuse(where, f"its reset_fn {kind} is not one of Sinabs'")

    @property
    def most(self) -> float:
        """Largest number of spikes of a neuron in a step."""
        return _spikes_a_step(type(self).__name__, self.spike_fn)

    @property
    def reset_to(self) -> dict[str, Any] | None:
        """The reset as arguments of an op; None: no op resets so."""
        function = self.reset_fn
        if type(function).__name__ == "MembraneReset":
            # Sinabs adds reset_value to every membrane, fired or not.
            return {"v_reset": 0.0, "detach_reset": True} if function.reset_value == 0 else None
        taken, threshold = function.subtract_value, getattr(self, self.at_rest)
        if taken is not None and not bool((torch.as_tensor(taken) == threshold).all()):
            return None
        return {"v_reset": None, "detach_reset": False}

    @property
    def gradient(self) -> surrogate.Surrogate | None:
        """The kernels' equal of the surrogate gradient, or None: the reference runs Sinabs' own."""
        own = self.surrogate_grad_fn
        plain = type(own).__name__ == "Gaussian" and own.mu == 0 and own.grad_scale == 1
        return surrogate.gaussian(1 / (math.sqrt(2) * own.sigma)) if plain else None


def _spikes_a_step(where: str, function: Any) -> float:
    name = getattr(function, "__name__", type(function).__name__)
    most = getattr(function, "max_num_spikes_per_bin", None) or math.inf
    known = {"NoneType": 1, "SingleSpike": 1, "MultiSpike": math.inf, "MaxSpike": most}
    if name not in known:
        refuse(where, f"its spike_fn {function} is not one of Sinabs'")
    return known[name]
