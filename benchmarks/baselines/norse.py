"""Norse: the cell in a loop, because a cell takes ``[T, B, ...]`` for one large batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from norse.torch import LIFBoxCell, LIFBoxParameters
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
