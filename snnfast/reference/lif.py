"""Leaky integrate and fire: Gerstner et al., Neuronal Dynamics, section 1.3."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import lif as calls

from .neuron import Fire, neuron, over_time


@neuron(calls.lif)
def lif(call: calls.LifCall) -> tuple[Tensor, ...]:
    def step(fire: Fire, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = call.v_rest + call.decay * (v - call.v_rest) + call.gain * x
        s, _, v = fire(h, call.v_threshold)
        return s, v

    return over_time(call, step, call.v)


iaf = neuron(calls.iaf)(lif.equation)  # type: ignore[attr-defined]
li = neuron(calls.li)(lif.equation)  # type: ignore[attr-defined]
