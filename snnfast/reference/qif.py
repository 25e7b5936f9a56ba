"""Quadratic integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.3."""

from __future__ import annotations

from typing import Any

from snnfast.calls import qif as calls

from .neuron import Fire, equation_of


@equation_of(calls.qif, prefetch=True)
def qif(
    fire: Fire,
    x: Any,
    v: Any,
    *,
    rate: Any,
    gain: Any,
    v_threshold: Any,
    v_rest: Any,
    a0: Any,
    v_c: Any,
) -> Any:
    pull = a0 * ((v - v_rest) * (v - v_c))
    h = v + rate * pull + gain * x
    s, _, v = fire(h, v_threshold)
    return s, v
