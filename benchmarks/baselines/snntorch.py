"""snnTorch, with reset to zero in the same step."""

from __future__ import annotations

from collections.abc import Callable

import snntorch
import torch
from torch import Tensor

NOTE = "spikes at h > 1 instead of h >= 1"


def lif() -> Callable[[Tensor], Tensor]:
    # Leaky does not scale its input: here membrane, threshold and surrogate are twice as wide.
    neurons = snntorch.Leaky(
        beta=0.5,
        threshold=2.0,
        spike_grad=snntorch.surrogate.atan(alpha=1.0),
        reset_mechanism="zero",
        reset_delay=False,
    )

    def run(x: Tensor) -> Tensor:
        neurons.to(x.device)
        v = torch.zeros_like(x[0])
        spikes = []
        for x_t in x.unbind(0):
            s, v = neurons(x_t, v)
            spikes.append(s)
        return torch.stack(spikes)

    return run
