"""A linear map, input by input."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import spike_linear as calls
from snnfast.calls.call import equation
from snnfast.check import state_dtype


@equation(calls.spike_linear)
def spike_linear(call: calls.SpikeLinearCall) -> Tensor:
    dtype = state_dtype(call.weight.dtype)
    x, weight = call.x.to(dtype), call.weight.to(dtype)
    y = x.new_zeros(*x.shape[:-1], len(weight))
    if call.bias is not None:
        y = y + call.bias.to(dtype)
    for x_i, weight_i in zip(x.split(1, -1), weight.unbind(1)):
        y = y + x_i * weight_i
    return y.to(call.weight.dtype)
