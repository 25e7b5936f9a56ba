"""LIF of a normalised input: Ioffe and Szegedy, ICML 2015, before Gerstner et al., Neuronal Dynamics, section 1.3."""

from __future__ import annotations

from typing import Any

from snnfast.calls import normlif as calls

from .neuron import Fire, equation_of


@equation_of(calls.normlif, per_neuron=("scale", "shift"))
def normlif(
    fire: Fire,
    x: Any,
    v: Any,
    *,
    decay: Any,
    gain: Any,
    v_threshold: Any,
    v_rest: Any,
    scale: Any,
    shift: Any,
) -> Any:
    y = scale * x + shift
    h = v_rest + decay * (v - v_rest) + gain * y
    s, _, v = fire(h, v_threshold)
    return s, v
