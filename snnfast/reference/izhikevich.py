"""Izhikevich's neuron: IEEE Transactions on Neural Networks 14 (2003)."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import izhikevich as calls

from .neuron import Fire, neuron, over_time


@neuron(calls.izhikevich)
def izhikevich(call: calls.IzhikevichCall) -> tuple[Tensor, ...]:
    def step(fire: Fire, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        pull = call.a0 * ((v - call.v_rest) * (v - call.v_c))
        h = v + call.rate * pull + call.gain * (x - w)
        s, _, v = fire(h, call.v_threshold)
        drive = call.rate_w * (call.a * (h - call.v_rest))
        return s, v, call.decay_w * w + drive + call.b * s

    return over_time(call, step, call.v, call.w)
