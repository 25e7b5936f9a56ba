"""Current-based LIF: LIF driven by a synaptic current that decays exponentially."""

from __future__ import annotations

from typing import Any

from snnfast.calls import cuba as calls

from .neuron import Fire, equation_of


def step(
    fire: Fire,
    x: Any,
    v: Any,
    i: Any,
    *,
    decay: Any,
    gain: Any,
    v_threshold: Any,
    v_rest: Any,
    decay_syn: Any,
) -> Any:
    i = decay_syn * i + x
    h = v_rest + decay * (v - v_rest) + gain * i
    s, _, v = fire(h, v_threshold)
    return s, v, i


cuba = equation_of(calls.cuba)(step)
cubali = equation_of(calls.cubali)(step)
