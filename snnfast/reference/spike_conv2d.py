"""A convolution, weight by weight."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from snnfast.calls import spike_conv2d as calls
from snnfast.calls.call import equation
from snnfast.check import state_dtype


@equation(calls.spike_conv2d)
def spike_conv2d(call: calls.SpikeConv2dCall) -> Tensor:
    dtype = state_dtype(call.x.dtype)
    h, w = call.padding_h, call.padding_w
    x, weight = pad(call.x.to(dtype), (w, w, h, h)), call.weight.to(dtype)
    kh, kw = weight.shape[2:]
    rows, columns = x.shape[2] - kh + 1, x.shape[3] - kw + 1  # that the kernel's first weight sees
    down, right = call.stride_h, call.stride_w
    y = x.new_zeros(len(x), len(weight), -(-rows // down), -(-columns // right))
    if call.bias is not None:
        y = y + call.bias.to(dtype)[:, None, None]
    for r in range(kh):
        for s in range(kw):
            seen = x[:, :, r : r + rows : down, s : s + columns : right]
            y = y + torch.einsum("ncij,oc->noij", seen, weight[:, :, r, s])
    return y.to(call.x.dtype)
