"""Current-based LIF: LIF driven by a synaptic current that decays exponentially."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import cuba as calls

from .neuron import Fire, neuron, over_time


@neuron(calls.cuba)
def cuba(call: calls.CubaCall) -> tuple[Tensor, ...]:
    def step(fire: Fire, x: Tensor, v: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        i = call.decay_syn * i + x
        h = call.v_rest + call.decay * (v - call.v_rest) + call.gain * i
        s, _, v = fire(h, call.v_threshold)
        return s, v, i

    return over_time(call, step, call.v, call.i)


cubali = neuron(calls.cubali)(cuba.equation)  # type: ignore[attr-defined]
