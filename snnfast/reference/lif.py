"""Leaky integrate and fire: Gerstner et al., Neuronal Dynamics, section 1.3."""

from __future__ import annotations

from typing import Any

from snnfast.calls import lif as calls

from .neuron import Fire, equation_of


def step(
    fire: Fire, x: Any, v: Any, *, decay: Any, gain: Any, v_threshold: Any, v_rest: Any
) -> Any:
    h = v_rest + decay * (v - v_rest) + gain * x
    s, _, v = fire(h, v_threshold)
    return s, v


lif = equation_of(calls.lif)(step)
iaf = equation_of(calls.iaf)(step)
li = equation_of(calls.li)(step)
