"""Spike counts of integrate-and-fire neurons: Diehl et al. 2015."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast.calls import spike_count as calls
from snnfast.calls.call import equation

from .lif import iaf


@equation(calls.spike_count)
def spike_count(call: calls.SpikeCountCall) -> tuple[Tensor, Tensor]:
    spikes, v = iaf(call.x, call.v, v_threshold=call.v_threshold, v_reset=call.v_reset)
    count = torch.zeros_like(v) if call.count is None else call.count.clone()
    for s in spikes.to(count.dtype):
        count += s
    return count, v
