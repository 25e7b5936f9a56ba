"""Quadratic integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.3."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import qif as calls

from .neuron import Fire, neuron, over_time


@neuron(calls.qif)
def qif(call: calls.QifCall) -> tuple[Tensor, ...]:
    def step(fire: Fire, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        pull = call.a0 * ((v - call.v_rest) * (v - call.v_c))
        h = v + call.rate * pull + call.gain * x
        s, _, v = fire(h, call.v_threshold)
        return s, v

    return over_time(call, step, call.v)
