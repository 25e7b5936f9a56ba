"""Sinabs' spike functions, resets and surrogate gradients as what an op takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnfast import surrogate

from .port import refuse

__all__ = ["SpikeFunction", "gradient_of", "reset_arguments", "spikes_a_step"]


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


def spikes_a_step(function: Any) -> float | None:
    """How many times a neuron may fire in a step; None: of a function that is not Sinabs'."""
    name = getattr(function, "__name__", type(function).__name__)
    most = getattr(function, "max_num_spikes_per_bin", None) or math.inf
    return {"NoneType": 1, "SingleSpike": 1, "MultiSpike": math.inf, "MaxSpike": most}.get(name)


def reset_arguments(where: str, function: Any, threshold: Any) -> dict[str, Any] | None:
    """The arguments of an op for Sinabs' ``reset_fn``; None if there are none."""
    kind = type(function).__name__
    if kind == "MembraneReset":
        # Sinabs adds reset_value to every membrane, fired or not.
        return {"v_reset": 0.0, "detach_reset": True} if function.reset_value == 0 else None
    if kind != "MembraneSubtract":
        refuse(where, f"its reset_fn {kind} is not one of Sinabs'")
    taken = function.subtract_value
    if taken is not None and not bool((torch.as_tensor(taken) == threshold).all()):
        return None
    return {"v_reset": None, "detach_reset": False}


def gradient_of(function: Any) -> surrogate.Surrogate | None:
    """The kernels' equal of a surrogate gradient, or None: the reference runs Sinabs' own."""
    plain = type(function).__name__ == "Gaussian" and function.mu == 0 and function.grad_scale == 1
    return surrogate.gaussian(1 / (math.sqrt(2) * function.sigma)) if plain else None
