"""Neurons whose spikes come back to them, one step of the neuron's own equation at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import check
from snnfast.calls import recurrent as calls
from snnfast.calls.call import equation, fields_of_kind
from snnfast.calls.neuron import answer

from .neuron import EQUATIONS


@equation(calls.recurrent, answer)
def recurrent(call: Any) -> tuple[Tensor, ...]:
    neuron, dtype = calls.neuron_of(call), check.state_dtype(call.x.dtype)
    step = EQUATIONS[type(neuron)]
    if len(call.x) == 0:
        return step(neuron)
    names = fields_of_kind(type(neuron), Tensor | None)
    states = [getattr(neuron, name) for name in names]
    before = [] if call.past is None else list(call.past.to(dtype))
    spikes, v_seq = list(before), []
    for x in call.x.to(dtype):
        arrived = _arriving(spikes, call.delay, len(call.x) + len(before), x)
        for j in range(call.x.shape[-1]):
            r, w = arrived[..., j, None], call.weight[:, j]
            # 0 times infinity adds nothing.
            x = x + torch.where((r == 0) & ~w.isfinite(), 0.0, r * w)
        now = neuron._replace(x=x[None], **dict(zip(names, states)))
        s, *states, v = step(now)
        spikes.append(s[0])
        v_seq.append(v[0])
    return torch.stack(spikes[len(before) :]).to(call.x.dtype), *states, torch.stack(v_seq)


def _arriving(spikes: list[Tensor], delay: Tensor | None, most: int, x: Tensor) -> Tensor:
    """What arrives at the step after ``spikes``; before them there were none."""
    none = torch.zeros_like(x)
    if delay is None:
        return spikes[-1] if spikes else none
    known = (delay >= 0) & (delay < most)
    steps = torch.where(known, delay, 0.0)
    whole = steps.detach().floor()
    late = steps - whole
    rows = torch.stack([none, none, *spikes]).movedim(-1, 0)  # [H, steps, ...]
    at = (len(spikes) + 1 - whole.long()).clamp(min=1)
    j = torch.arange(len(rows), device=x.device)
    early_spikes, late_spikes = (rows[j, k].movedim(0, -1) for k in (at, at - 1))
    arrived = (1 - late) * early_spikes + late * late_spikes
    return torch.where(delay >= most, 0.0, arrived)
