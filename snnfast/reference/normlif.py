"""LIF of a normalised input: Ioffe and Szegedy, ICML 2015, before Gerstner et al., Neuronal Dynamics, section 1.3."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import normlif as calls

from .neuron import Fire, neuron, over_time


@neuron(calls.normlif)
def normlif(call: calls.NormlifCall) -> tuple[Tensor, ...]:
    def step(fire: Fire, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        y = call.scale * x + call.shift
        h = call.v_rest + call.decay * (v - call.v_rest) + call.gain * y
        s, _, v = fire(h, call.v_threshold)
        return s, v

    return over_time(call, step, call.v)
