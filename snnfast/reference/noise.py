"""Poisson input of sparse networks from counted random numbers: Salmon et al., SC 2011."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .poisson import WORD, philox4x32_10


def noise_of_step(shape: Sequence[int], t: int, table: Tensor, weight: Tensor, key: Tensor) -> Tensor:
    """Return the noise of step ``t`` of a call, ``shape`` ``[..., targets]``.

    Target ``n`` of sample ``b`` takes word ``n % 64 // 16`` of the Philox counter ``(n // 64 * 16 + n % 16, b, step)``
    with the seed as key, and the number of arrivals where this word lies between the thresholds of its run.

    Args:
        shape: sizes of the result.
        t: step of the call.
        table: ``[runs, 2 + thresholds]``: first target, smallest number of arrivals, thresholds of one more each.
        weight: of an arrival, ``[targets]``.
        key: seed, and number of the call's first step.
    """
    *batch, targets = shape
    seed, step = key[0], key[1] + t
    n = torch.arange(targets, device=key.device)
    sample = torch.arange(torch.Size(batch).numel(), device=key.device)[:, None]
    counter = n // 64 * 16 + n % 16 + 0 * sample, sample + 0 * n, (step & WORD) + 0 * n, (step >> 32 & WORD) + 0 * n
    words = torch.stack(philox4x32_10(counter, (seed & WORD, seed >> 32)))
    word = words.gather(0, (n % 64 // 16).expand(1, len(sample), targets))[0]
    run = table[torch.searchsorted(table[:, 0].contiguous(), n, right=True) - 1]
    arrivals = run[:, 1] + (word[..., None] >= run[:, 2:]).sum(-1)
    silent = (run[:, 1] == 0) & (run[:, 2:] > WORD).all(-1)
    # A target with rate 0 adds nothing: -0.0 changes no number, 0.0 that of -0.0.
    return torch.where(silent, -0.0, weight * arrivals.to(weight.dtype)).view(shape)
