"""One presentation after the other, as the equations see it."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from snnfast.calls.presentations import Presentations

from .poisson import poisson


def spikes_of(x: Presentations, p: int, inputs: int) -> Tensor:
    """Presentation ``p`` as bool ``[T, I]``."""
    if x.spikes is not None:
        return x.spikes[p] != 0
    if x.inputs is not None and x.offsets is not None:
        offsets = x.offsets[p].tolist()
        spikes = torch.zeros((len(offsets) - 1, inputs), dtype=torch.bool, device=x.inputs.device)
        for t, (begin, end) in enumerate(pairwise(offsets)):
            spikes[t, x.inputs[begin:end].long()] = True
        return spikes
    if x.hz is None or x.seeds is None:
        raise TypeError("presentations: give spikes, or inputs and offsets, or hz and seeds")
    probability = x.hz[p].to(torch.float32) * x.per_hz
    return poisson(
        probability, x.num_steps, seed=x.seeds[p : p + 1], dtype=torch.bool, validate=False
    )
