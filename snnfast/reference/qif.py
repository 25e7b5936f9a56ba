"""Quadratic integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.3."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import qif as calls

from .neuron import fire, gain, neuron, over_time


@neuron(calls.qif)
def qif(call: calls.QifCall) -> tuple[Tensor, ...]:
    def step(x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        pull = call.a0 * ((v - call.v_rest) * (v - call.v_c))
        return fire(call, v + (1.0 - call.decay) * pull + gain(call) * x, call.v_threshold)

    return over_time(call, step, call.v)
