"""Adaptive LIF with two coupled states: Bittar and Garner 2022, Baronig et al. 2025."""

from __future__ import annotations

from typing import Any

from snnfast.calls import adlif as calls

from .neuron import Fire, choose, equation_of


@equation_of(calls.adlif)
def adlif(
    fire: Fire,
    x: Any,
    v: Any,
    w: Any,
    *,
    decay: Any,
    gain: Any,
    v_threshold: Any,
    v_rest: Any,
    decay_w: Any,
    gain_w: Any,
    a: Any,
    b: Any,
    symplectic: Any,
) -> Any:
    h = v_rest + decay * (v - v_rest) + gain * (x - w)
    s, h, v = fire(h, v_threshold)
    m = choose(symplectic, v, h)
    return s, v, decay_w * w + gain_w * (a * (m - v_rest) + b * s)
