"""Pooling, window by window."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast.calls import pool2d as calls
from snnfast.calls.call import equation


@equation(calls.pool2d)
def pool2d(call: calls.Pool2dCall) -> Tensor:
    windows = call.x.unfold(2, call.kernel_h, call.kernel_h).unfold(3, call.kernel_w, call.kernel_w)
    if call.average:
        return windows.mean((4, 5))
    best, *others = windows.flatten(4).unbind(4)
    for value in others:
        best = torch.where((value > best) | value.isnan(), value, best)
    return best
