"""Exponential integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.2."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import eif as calls

from .exp import exp_saturating
from .neuron import Fire, divided, neuron, over_time


@neuron(calls.eif)
def eif(call: calls.EifCall) -> tuple[Tensor, ...]:
    def step(fire: Fire, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        upstroke = call.delta_t * exp_saturating(divided(v - call.theta_rh, call.delta_t))
        pull = call.rate * (upstroke - (v - call.v_rest))
        s, _, v = fire(v + pull + call.gain * x, call.v_threshold)
        return s, v

    return over_time(call, step, call.v)
