"""Neurons without an op, as the equation of one step, which :func:`snnfast.neuron` compiles.

:func:`snnfast.nn.like` makes layers of those from other libraries; :func:`snnfast.nn.replace` adds the calls and keys
of the library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .own_neuron import neuron

__all__ = [
    *("SpikeCount", "brf", "clif", "glif", "ilif", "izhikevich2003", "klif", "lif_adex", "lif_adex_refrac", "lif_ex"),
    *("lif_refrac", "raf", "ternary"),
    *("charge", "reset", "turn"),
]


@neuron
def brf(fire, x, u, w, q, *, omega=10.0, b_offset=1.0, dt=0.01, decay_q=0.9, v_threshold=1.0):
    """Balanced resonate and fire (Higuchi et al., Balanced resonate-and-fire neurons, ICML 2024): no reset.

    ``u + i w`` turns by ``omega`` and decays: with ``b_offset = 0`` and at rest its magnitude is constant, and
    ``b_offset`` above 0, and ``q`` after spikes, damp it. ``u`` fires above ``v_threshold + q``. Needs ``dt |omega|``
    below 1.

    ::

        b = (sqrt(1 - (dt omega)^2) - 1) / dt - b_offset - q
        u + i w <- (1 + dt (b + i omega)) (u + i w) + dt x
        s = u >= v_threshold + q            q <- decay_q q + s
    """
    b = (torch.sqrt(1 - (dt * omega) * (dt * omega)) - 1) / dt - torch.abs(b_offset) - q
    u, w = u + dt * (b * u - omega * w + x), w + dt * (omega * u + b * w)
    s, u, _ = fire(u, v_threshold + q)
    return s, u, w, decay_q * q + s


# ---- SpikingJelly


def charge(tau: float, decay_input: bool) -> dict[str, float]:
    """Decay of the membrane in a step, and gain of the input."""
    return {"decay": 1 - 1 / tau, "gain": 1 / tau if decay_input else 1.0}


def reset(v_reset: float | None) -> dict[str, Any]:
    """Arguments of a step that subtracts its reset itself: with ``hard=1`` down to ``v_rest``."""
    rest = 0.0 if v_reset is None else v_reset
    return {"v_reset": None, "v_rest": rest, "hard": float(v_reset is not None)}


def turn(b: float, omega: float, dt: float) -> dict[str, float]:
    """Rotation and decay of a resonator in a step."""
    magnitude = math.exp(b * dt)
    return {"cosine": magnitude * math.cos(omega * dt), "sine": magnitude * math.sin(omega * dt)}


@neuron
def klif(
    fire, x, v, *, decay=0.5, gain=0.5, k=1.0, scaled=0.0, hard=1.0, v_rest=0.0, v_threshold=1.0
):  # fmt: skip
    """``KLIFNode``: a LIF whose membrane is ``f = relu(k h)`` before it is compared with the threshold.

    After a spike the membrane is ``v_rest``, or with ``hard=0`` the threshold is subtracted; with ``scaled=1`` membrane
    and threshold are divided by ``k`` before (Jiang and Zhang 2023, arXiv:2302.09238).
    """
    f = torch.relu(k * (v_rest + decay * (v - v_rest) + gain * x))
    scale = scaled * k + (1 - scaled)
    s, _, v = fire(f, v_threshold, hard * (f - scale * v_rest) + (1 - hard) * v_threshold)
    return s, v / scale


@neuron
def glif(
    fire, x, v, s, *, alpha=0.5, beta=0.5, gamma=0.5, decay=0.75, leak=0.1, g=0.5, v_subtract=1.0, v_threshold=1.0
):  # fmt: skip
    """GLIF (Yao et al. 2022): gates between exponential and linear leak, input gains, and hard and soft reset.

    ``v`` is the membrane before the reset and ``s`` the last spike, as in the paper's code. The paper learns every
    parameter through a sigmoid, and a gain ``g`` for each step, as SpikingJelly's ``GatedLIFNode`` does; here they are
    plain values, and ``g`` is the same at all steps.
    """
    v = (1 - alpha * (1 - decay)) * v * (1 - gamma * s) - (1 - gamma) * v_subtract * s
    v = v - (1 - alpha) * leak + (1 - beta * (1 - g)) * x
    s, v, _ = fire(v, v_threshold)
    return s, v, s


@neuron
def clif(fire, x, v, m, *, tau=2.0, v_threshold=1.0):
    """``ComplementaryLIFNode``: the more a neuron fires, the more a spike subtracts (Huang et al. 2024)."""
    h = (1 - 1 / tau) * v + x
    s, h, _ = fire(h, v_threshold)
    m = m * torch.sigmoid(h / tau) + s
    return s, h - s * (v_threshold + torch.sigmoid(m)), m


@neuron
def ilif(fire, x, v, *, decay=0.25, v_threshold=1.0):
    """``ILIFNode``: integer spikes (Luo et al. 2024), by the surrogate :class:`SpikeCount` and ``v_reset=None``."""
    s, _, remainder = fire((decay * v + x) / v_threshold, 0.0, 1.0)
    return s, remainder * v_threshold


@neuron
def raf(fire, x, v, u, *, cosine=0.5, sine=0.5, v_threshold=1.0):
    """``RAFNode``, resonate and fire (Izhikevich 2001): ``u + i v`` turns and decays; ``v`` fires and is reset."""
    u, h = cosine * u - sine * v + x, sine * u + cosine * v
    s, h, v = fire(h, v_threshold)
    return s, v, u


@neuron
def ternary(
    fire, x, v, *, decay=1.0, gain=1.0, hard=0.0, v_rest=0.0, v_threshold=1.0
):  # fmt: skip
    """``TernaryIFNode`` and ``TernaryLIFNode``: spikes of 1, and of -1 below ``-v_threshold``.

    A soft reset, ``v_reset=None``, subtracts the threshold, or with ``hard=1`` the distance to ``v_rest``.
    """
    h = v_rest + decay * (v - v_rest) + gain * x
    beyond = hard * (h - v_rest)
    up, _, lower = fire(h, v_threshold, beyond + (1 - hard) * v_threshold)
    down, _, higher = fire(-h, v_threshold, (1 - hard) * v_threshold - beyond)
    return up - down, lower - (higher + h)


@dataclass(frozen=True)
class SpikeCount:
    """Spike function of I-LIF: ``round(clamp(u, 0, most))``, with gradient 1 where ``low <= u <= high``."""

    most: int
    low: float
    high: float

    def __call__(self, u: Tensor) -> Tensor:
        """Return the spike counts of membranes ``u``, in units of the threshold."""
        inside = torch.where((u >= self.low) & (u <= self.high), u, 0.0)
        count = torch.round(torch.clamp(u, 0, self.most))
        return count.detach() + (inside - inside.detach())


# ---- Norse. Rates are dt / tau. Its neurons store the current after the decay.


def _refractory(fire: Any, s: Any, v: Any, after: Any, rho: Any, rho_reset: Any) -> tuple[Any, ...]:
    """Return spikes, membrane and counter: the membrane is constant while ``rho > 0``, a spike of the surrogate."""
    refractory, _, _ = fire(rho, 0.0)
    s = (1 - refractory) * s
    return s, (1 - refractory) * after + refractory * v, (1 - s) * torch.relu(rho - refractory) + s * rho_reset


@neuron
def lif_refrac(
    fire, x, v, i, rho, *, rate=0.1, rate_syn=0.2, rho_reset=5.0, v_rest=0.0, v_threshold=1.0
):  # fmt: skip
    """``LIFRefracCell``: a LIF with a synaptic current, refractory for ``rho_reset`` steps after a spike."""
    i = i + x
    s, _, after = fire(v + rate * ((v_rest - v) + i), v_threshold)
    s, v, rho = _refractory(fire, s, v, after, rho, rho_reset)
    return s, v, i - rate_syn * i, rho


@neuron
def lif_ex(fire, x, v, i, *, rate=0.1, rate_syn=0.2, delta_t=0.5, v_rest=0.0, v_threshold=1.0):
    """``LIFExCell``: an exponential LIF with a synaptic current."""
    i = i + x
    rise = delta_t * torch.exp((v - v_threshold) / delta_t)
    s, _, v = fire(v + rate * ((v_rest - v) + i + rise), v_threshold)
    return s, v, i - rate_syn * i


@neuron
def lif_adex(
    fire, x, v, i, a, *,
    rate=0.1, rate_syn=0.2, rate_ada=0.002, delta_t=0.5, coupling=4.0, jump=0.02, v_rest=0.0, v_threshold=1.0,
):  # fmt: skip
    """``LIFAdExCell``: an exponential LIF with a synaptic current and the adaptation current ``a``."""
    i = i + x
    rise = delta_t * torch.exp((v - v_threshold) / delta_t)
    s, _, after = fire(v + rate * ((v_rest - v) + i + rise - a), v_threshold)
    a = a + rate_ada * (coupling * (v - v_rest) - a)
    return s, after, i - rate_syn * i, a + s * jump


@neuron
def lif_adex_refrac(
    fire, x, v, i, a, rho, *, rate=0.1, rate_syn=0.2, rate_ada=0.002,
    delta_t=0.5, coupling=4.0, jump=0.02, rho_reset=5.0, v_rest=0.0, v_threshold=1.0,
):  # fmt: skip
    """``LIFAdExRefracCell``: :func:`lif_adex`, refractory for ``rho_reset`` steps after a spike, except ``a``."""
    i = i + x
    rise = delta_t * torch.exp((v - v_threshold) / delta_t)
    s, _, after = fire(v + rate * ((v_rest - v) + i + rise - a), v_threshold)
    a = a + rate_ada * (coupling * (v - v_rest) - a) + s * jump
    s, v, rho = _refractory(fire, s, v, after, rho, rho_reset)
    return s, v, i - rate_syn * i, a, rho


@neuron
def izhikevich2003(
    fire, x, v, u, *, rate=0.25, a=0.02, b=0.2, d=6.0, sq=0.04, mn=5.0, bias=140.0, v_threshold=30.0
):  # fmt: skip
    """``IzhikevichCell`` in mV: both charges see the membrane of the step before (Izhikevich 2003)."""
    h = v + rate * (sq * v * v + mn * v + bias - u + x)
    u = u + rate * a * (b * v - u)
    s, _, v = fire(h, v_threshold)
    return s, v, u + s * d
