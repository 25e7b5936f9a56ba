"""Sinabs, whose layout is batch first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import sinabs.activation
import sinabs.layers
from torch import Tensor

NOTE = "no gradient through the reset"


@dataclass
class ATan:
    def __call__(self, v_mem: Tensor, spike_threshold: Tensor | float) -> Tensor:
        return 1 / (1 + (math.pi * (v_mem - spike_threshold)).square())


def lif() -> Callable[[Tensor], Tensor]:
    neurons = sinabs.layers.LIF(
        tau_mem=1 / math.log(2),
        norm_input=True,
        spike_fn=sinabs.activation.SingleSpike,
        reset_fn=sinabs.activation.MembraneReset(),
        surrogate_grad_fn=ATan(),
    )

    def run(x: Tensor) -> Tensor:
        neurons.to(x.device).reset_states()
        return neurons(x.transpose(0, 1)).transpose(0, 1)

    return run
