"""Adaptive LIF: Bellec et al., Nature Communications 11 (2020)."""

from __future__ import annotations

from typing import Any

from snnfast.calls import alif as calls

from .neuron import Fire, equation_of


@equation_of(calls.alif)
def alif(
    fire: Fire,
    x: Any,
    v: Any,
    a: Any,
    *,
    decay: Any,
    gain: Any,
    v_threshold: Any,
    v_rest: Any,
    beta: Any,
    decay_adapt: Any,
) -> Any:
    h = v_rest + decay * (v - v_rest) + gain * x
    s, _, v = fire(h, v_threshold + beta * a, v_threshold)
    return s, v, decay_adapt * a + s
