"""Neurons whose spikes come back to them, one step of the neuron's own equation at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnfast import check
from snnfast.calls import recurrent as calls
from snnfast.calls.call import equation, fields_of_kind
from snnfast.calls.neuron import result_of

from .neuron import scan


@equation(calls.recurrent, result_of)
def recurrent(call: Any) -> tuple[Tensor, ...]:
    neuron, dtype = calls.neuron_of(call), check.state_dtype(call.x.dtype)
    if len(call.x) == 0:
        return scan(neuron)
    names = fields_of_kind(type(neuron), Tensor | None)

    def step(x: Tensor, states: list[Tensor | None]) -> tuple[Tensor, list[Tensor | None]]:
        s, *states, _ = scan(neuron._replace(x=x[None], **dict(zip(names, states))))  # type: ignore[assignment]
        return s[0], states

    states = [getattr(neuron, name) for name in names]
    spikes, states, v_seq = fed_back(
        step, call.x.to(dtype), states, call.weight, call.past, call.delay
    )
    return spikes.to(call.x.dtype), *states, v_seq


def fed_back(
    step: Callable[[Tensor, list[Any]], tuple[Tensor, list[Any]]],
    x: Tensor,
    states: list[Any],
    weight: Tensor,
    past: Tensor | None,
    delay: Tensor | None,
) -> tuple[Tensor, list[Any], Tensor]:
    """Spikes, last states and first states of ``step(x[t] + what arrives, states) -> spikes, states``."""
    before = [] if past is None else list(past.to(x.dtype))
    spikes, v_seq = list(before), []
    for current in x:
        arrived = _arriving(spikes, delay, len(x) + len(before), current)
        for j in range(x.shape[-1]):
            r, w = arrived[..., j, None], weight[:, j]
            # 0 times infinity adds nothing.
            current = current + torch.where((r == 0) & ~w.isfinite(), 0.0, r * w)
        s, states = step(current, states)
        spikes.append(s)
        v_seq.append(states[0])
    return torch.stack(spikes[len(before) :]), states, torch.stack(v_seq)


def _arriving(spikes: list[Tensor], delay: Tensor | None, most: int, x: Tensor) -> Tensor:
    """Return the spikes that arrive at the step after ``spikes``; there were none before them."""
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
