"""Norse: the cell in a loop, because a cell takes ``[T, B, ...]`` for one large batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from norse.torch import LIFBoxCell, LIFBoxParameters, LSNNRecurrentCell
from torch import Tensor

NOTE = "spikes at h > 1; SuperSpike surrogate"


def lif() -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        parameters = LIFBoxParameters(
            tau_mem_inv=torch.tensor(500.0, dtype=x.dtype, device=x.device),
            v_leak=torch.tensor(0.0, dtype=x.dtype, device=x.device),
            v_th=torch.tensor(1.0, dtype=x.dtype, device=x.device),
            v_reset=torch.tensor(0.0, dtype=x.dtype, device=x.device),
        )
        cell = LIFBoxCell(parameters, dt=0.001)
        state = None
        spikes = []
        for x_t in x.unbind(0):
            s, state = cell(x_t, state)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def recurrent(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    cell = LSNNRecurrentCell(len(weight), len(weight), dt=0.001).to(weight)
    with torch.no_grad():
        cell.recurrent_weights.copy_(weight)
        cell.input_weights.copy_(torch.eye(len(weight)))

    def run(x: Tensor, w: Tensor) -> Tensor:
        state = None
        spikes = []
        for x_t in x.unbind(0):
            s, state = cell(x_t, state)
            spikes.append(s)
        return torch.stack(spikes)

    return run
