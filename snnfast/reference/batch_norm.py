"""Batch normalisation, channel by channel."""

from __future__ import annotations

from torch import Tensor

from snnfast.calls import batch_norm as calls
from snnfast.calls.call import equation


@equation(calls.batch_norm)
def batch_norm(call: calls.BatchNormCall) -> tuple[Tensor, Tensor, Tensor]:
    channels = (-1, *(1,) * (call.x.dim() - 2))
    dims = [d for d in range(call.x.dim()) if d != 1]
    x = call.x.double()
    if call.mean is None or call.var is None:
        mean = x.mean(dims)
        var = (x - mean.view(channels)).square().mean(dims)
    else:
        mean, var = call.mean.double(), call.var.double()
    y = (x - mean.view(channels)) / (var + call.eps).sqrt().view(channels)
    if call.weight is not None:
        y = y * call.weight.double().view(channels)
    if call.bias is not None:
        y = y + call.bias.double().view(channels)
    return y.to(call.x.dtype), mean.detach(), var.detach()
