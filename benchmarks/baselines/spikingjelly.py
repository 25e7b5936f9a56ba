"""SpikingJelly; from 2.0 on it chooses plain PyTorch, Triton or native CUDA by itself."""

from __future__ import annotations

from collections.abc import Callable

from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor

NOTE = ""


def lif() -> Callable[[Tensor], Tensor]:
    neurons = neuron.LIFNode(
        tau=2.0,
        decay_input=True,
        v_threshold=1.0,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(alpha=2.0),
        step_mode="m",
    )

    def run(x: Tensor) -> Tensor:
        functional.reset_net(neurons)
        return neurons(x)

    return run
