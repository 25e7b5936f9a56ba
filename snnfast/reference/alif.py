"""Adaptive LIF: Bellec et al., Nature Communications 11 (2020)."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import alif as calls

from .neuron import Fire, neuron, over_time


@neuron(calls.alif)
def alif(call: calls.AlifCall) -> tuple[Tensor, ...]:
    def step(fire: Fire, x: Tensor, v: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        h = call.v_rest + call.decay * (v - call.v_rest) + call.gain * x
        s, _, v = fire(h, call.v_threshold + call.beta * a)
        return s, v, call.decay_adapt * a + s

    return over_time(call, step, call.v, call.a)
