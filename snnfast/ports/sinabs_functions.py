"""Sinabs' spike functions, resets and surrogate gradients as arguments of an op."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from snnfast.nn.own_neuron import OwnNeuron
from snnfast.reference import surrogate

from .port import refuse

__all__ = ["Functions"]

# Cache of the neurons that call Sinabs' own functions.
_NEURONS: dict[Any, OwnNeuron] = {}


class Functions:
    """Sinabs' functions of a layer as arguments of an op. Users may set or load them and the threshold at any time.

    Attributes:
        at_rest: the name of the threshold without adaptation.
    """

    at_rest: ClassVar[str] = "spike_threshold"
    spike_fn: Any
    reset_fn: Any
    surrogate_grad_fn: Any

    def check_functions(self, where: str) -> None:
        """Refuse functions that are not Sinabs'."""
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
        """The reset as arguments of an op; None if no op has this reset."""
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
        """The equivalent surrogate of the kernels, or None."""
        function = self.surrogate_grad_fn
        plain = type(function).__name__ == "Gaussian" and function.mu == 0 and function.grad_scale == 1
        return surrogate.gaussian(1 / (math.sqrt(2) * function.sigma)) if plain else None

    def neuron(self, *, bounded: bool, current: bool, adapts: bool) -> OwnNeuron:
        """Return the neuron that calls Sinabs' own functions in every step; compiled, unless the gradient is a user's.

        Args:
            bounded: whether the membrane has a lower bound.
            current: whether it has a synaptic current.
            adapts: whether its threshold adapts.
        """
        spikes, reset, gradient = self.spike_fn, self.reset_fn, self.surrogate_grad_fn
        is_sinabs = type(gradient).__module__.partition(".")[0] == "sinabs"
        key = (repr(spikes), repr(reset), repr(gradient) if is_sinabs else gradient, bounded, current, adapts)
        if key in _NEURONS:
            return _NEURONS[key]
        slope = _COMPILED.get(type(gradient).__name__, lambda same: same)(gradient)

        def fired(h: Any, threshold: Any, low: Any) -> tuple[Any, Any]:
            s = spikes.apply(h, threshold, slope)
            v = reset(s, {"v_mem": h}, threshold)["v_mem"]
            return s, torch.relu(v - low) + low if bounded else v

        def lif(fire, x, v, *, decay=0.9, gain=1.0, v_threshold=1.0, low=0.0):  # type: ignore[no-untyped-def]
            return fired(decay * v + gain * x, v_threshold, low)

        def cuba(  # type: ignore[no-untyped-def]
            fire, x, v, i, *, decay=0.9, gain=1.0, decay_syn=0.9, v_threshold=1.0, low=0.0
        ):
            i = decay_syn * i + x
            return (*fired(decay * v + gain * i, v_threshold, low), i)

        def alif(  # type: ignore[no-untyped-def]
            fire, x, v, b, *, decay=0.9, gain=1.0, rho=0.9, scale=1.8, v_threshold=1.0, low=0.0
        ):
            s, v = fired(decay * v + gain * x, v_threshold + scale * b, low)
            return s, v, rho * b + (1 - rho) * s

        def cuba_alif(  # type: ignore[no-untyped-def]
            fire, x, v, b, i, *,
            decay=0.9, gain=1.0, decay_syn=0.9, rho=0.9, scale=1.8, v_threshold=1.0, low=0.0,
        ):  # fmt: skip
            i = gain * (decay_syn * (i + x))
            s, v = fired(decay * v + i, v_threshold + scale * b, low)
            return s, v, rho * b + (1 - rho) * s, i

        step = ((lif, cuba), (alif, cuba_alif))[adapts][current]
        return _NEURONS.setdefault(key, OwnNeuron(step, inputs=1, compile=is_sinabs))


def _gaussian(gradient: Any) -> Callable[[Any, Any], Any]:
    def normal(x: Any, mu: float, sigma: float) -> Any:
        return torch.exp(-((x - mu) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))

    def slope(v: Any, threshold: Any) -> Any:
        u, sigma = v - threshold, gradient.sigma
        if type(gradient).__name__ == "Gaussian":
            return normal(u, gradient.mu, sigma) * gradient.grad_scale
        sides = normal(u, sigma, gradient.s * sigma) + normal(u, -sigma, gradient.s * sigma)
        return ((1 + gradient.h) * normal(u, gradient.mu, sigma) - gradient.h * sides) * gradient.grad_scale

    return slope


# Replacements for surrogate gradients that read a tensor, which cannot be compiled.
_COMPILED = dict.fromkeys(("Gaussian", "MultiGaussian"), _gaussian)


def _spikes_a_step(where: str, function: Any) -> float:
    name = getattr(function, "__name__", type(function).__name__)
    most = getattr(function, "max_num_spikes_per_bin", None) or math.inf
    known = {"NoneType": 1, "SingleSpike": 1, "MultiSpike": math.inf, "MaxSpike": most}
    if name not in known:
        refuse(where, f"its spike_fn {function} is not one of Sinabs'")
    return known[name]
