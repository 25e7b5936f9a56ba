"""Exponential integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.2."""

from __future__ import annotations

from typing import Any

from snnfast.calls import eif as calls

from .exp import exp_upstroke
from .neuron import Fire, equation_of


@equation_of(calls.eif, prefetch=True)
def eif(
    fire: Fire,
    x: Any,
    v: Any,
    *,
    rate: Any,
    gain: Any,
    v_threshold: Any,
    v_rest: Any,
    delta_t: Any,
    theta_rh: Any,
) -> Any:
    pull = rate * (exp_upstroke(v - theta_rh, delta_t) - (v - v_rest))
    s, _, v = fire(v + pull + gain * x, v_threshold)
    return s, v
