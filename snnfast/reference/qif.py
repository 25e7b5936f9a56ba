"""Quadratic integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.3."""

from __future__ import annotations

from typing import Any

from snnfast.calls import qif as calls

from .neuron import Fire, choose, neuron


@neuron(calls.qif, prefetch=True)
def qif(
    fire: Fire,
    x: Any,
    v: Any,
    *,
    decay: Any,
    v_threshold: Any,
    v_rest: Any,
    a0: Any,
    v_c: Any,
    decay_input: Any,
) -> Any:
    gain = choose(decay_input, 1.0 - decay, 1.0)
    pull = a0 * ((v - v_rest) * (v - v_c))
    h = v + (1.0 - decay) * pull + gain * x
    s, _, v = fire(h, v_threshold)
    return s, v
