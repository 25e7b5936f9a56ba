"""Izhikevich's neuron: IEEE Transactions on Neural Networks 14 (2003)."""

from __future__ import annotations

from typing import Any

from snnfast.calls import izhikevich as calls

from .neuron import Fire, choose, neuron


@neuron(calls.izhikevich, prefetch=True)
def izhikevich(
    fire: Fire,
    x: Any,
    v: Any,
    w: Any,
    *,
    decay: Any,
    v_threshold: Any,
    v_rest: Any,
    a0: Any,
    v_c: Any,
    decay_w: Any,
    a: Any,
    b: Any,
    decay_input: Any,
) -> Any:
    gain = choose(decay_input, 1.0 - decay, 1.0)
    pull = a0 * ((v - v_rest) * (v - v_c))
    h = v + (1.0 - decay) * pull + gain * (x - w)
    s, h, v = fire(h, v_threshold)
    drive = (1.0 - decay_w) * (a * (h - v_rest))
    return s, v, decay_w * w + drive + b * s
