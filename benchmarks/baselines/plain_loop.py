"""Plain PyTorch as a user writes it, with recurrent weights: a step at a time, ``x[t]``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .tuned_loop import Spike

NOTE = ""


def step(x: Tensor, s: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    current = x + functional.linear(s, w)
    h = v + (current - v) / 2.0
    s = Spike.apply(h - 1.0)
    return s, h * (1.0 - s)


def recurrent(
    weight: Tensor, step: Callable[..., tuple[Tensor, Tensor]] = step
) -> Callable[[Tensor, Tensor], Tensor]:
    def run(x: Tensor, w: Tensor) -> Tensor:
        s = v = torch.zeros_like(x[0])
        spikes = []
        for t in range(x.shape[0]):
            s, v = step(x[t], s, v, w)
            spikes.append(s)
        return torch.stack(spikes)

    return run
