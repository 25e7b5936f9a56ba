"""Izhikevich's neuron: IEEE Transactions on Neural Networks 14 (2003)."""

from __future__ import annotations

from typing import Any

from snnfast.calls import izhikevich as calls

from .neuron import Fire, equation_of


@equation_of(calls.izhikevich, prefetch=True)
def izhikevich(
    fire: Fire,
    x: Any,
    v: Any,
    w: Any,
    *,
    rate: Any,
    gain: Any,
    v_threshold: Any,
    v_rest: Any,
    a0: Any,
    v_c: Any,
    decay_w: Any,
    rate_w: Any,
    a: Any,
    b: Any,
) -> Any:
    pull = a0 * ((v - v_rest) * (v - v_c))
    h = v + rate * pull + gain * (x - w)
    s, h, v = fire(h, v_threshold)
    drive = rate_w * (a * (h - v_rest))
    return s, v, decay_w * w + drive + b * s
