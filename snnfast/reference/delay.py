"""Delays that are real numbers of steps, by the triangle of DelRec; linear interpolation is the narrowest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnfast.calls import delay as calls
from snnfast.calls.call import equation
from snnfast.check import state_dtype


@equation(calls.delay)
def delay(call: calls.DelayCall) -> Tensor:
    x, dtype, neurons = call.x, state_dtype(call.x.dtype), call.x.shape[1:]
    past = x.new_zeros((0, *neurons)) if call.past is None else call.past
    steps, radius = len(past) + len(x), 1 + call.sigma
    reach = float(math.ceil(2 * radius))
    known = torch.cat([x.new_zeros((1, *neurons)), past, x]).to(dtype)  # row 0 is silence
    now = torch.arange(1 + len(past), 1 + steps, device=x.device).view(-1, *(1,) * len(neurons))
    d = (
        torch.as_tensor(call.d, dtype=dtype, device=x.device)
        .expand(neurons)
        .clamp(0.0, steps + reach)
    )
    first = (d.detach() - radius).floor() + 1
    y = torch.zeros(x.shape, dtype=dtype, device=x.device)
    for k in range(int(min(reach, steps))):
        j = first.clamp(min=0) + k
        outside = (j > d.detach() + radius) | (j >= first + reach)
        height = torch.where(j <= d, radius - (d - j), radius - (j - d))
        weight = torch.where(outside, 0, height * (1 / (radius * radius)))
        rows = (now - j.long()).clamp(0, steps)
        y = y + weight * known.gather(0, rows)
    return y.to(x.dtype)
