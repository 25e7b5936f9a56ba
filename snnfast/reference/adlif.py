"""Adaptive LIF with two coupled states: Bittar and Garner 2022, Baronig et al. 2025."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import adlif as calls

from .neuron import Fire, neuron, over_time


@neuron(calls.adlif)
def adlif(call: calls.AdlifCall) -> tuple[Tensor, ...]:
    def step(fire: Fire, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        h = call.v_rest + call.decay * (v - call.v_rest) + call.gain * (x - w)
        s, h, v = fire(h, call.v_threshold)
        m = v if call.symplectic else h
        return s, v, call.decay_w * w + call.gain_w * (call.a * (m - call.v_rest) + call.b * s)

    return over_time(call, step, call.v, call.w)
