"""Exponential integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.2."""

from __future__ import annotations

from typing import Any

from snnfast.calls import eif as calls

from .exp import exp_upstroke
from .neuron import Fire, choose, neuron


@neuron(calls.eif, prefetch=True)
def eif(
    fire: Fire,
    x: Any,
    v: Any,
    *,
    decay: Any,
    v_threshold: Any,
    v_rest: Any,
    delta_t: Any,
    theta_rh: Any,
    decay_input: Any,
) -> Any:
    gain = choose(decay_input, 1.0 - decay, 1.0)
    pull = (1.0 - decay) * (exp_upstroke(v - theta_rh, delta_t) - (v - v_rest))
    s, _, v = fire(v + pull + gain * x, v_threshold)
    return s, v
