"""Quantisation-aware fine-tuning of thresholds for inference in few steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from snnfast.check import integer, positive

from .analog import Analog, AnalogNode


class QCFS(nn.Module):
    """Quantised, clipped, floored and shifted ReLU: the rates of an integrate-and-fire neuron over ``levels`` steps.

    ::

        y = threshold clip(floor(levels x / threshold + 1/2) / levels, 0, 1)

    An IF neuron with this threshold that starts at half of it and subtracts it at every spike gives ``y`` as its mean
    output over ``levels`` steps of constant current ``x``, exactly. The floor has the gradient of the identity:
    ``dy/dx = 1`` and ``dy/dthreshold = y/threshold - x/threshold`` inside (0, threshold), 0 and 1 above it.

    Args:
        threshold: initial value of the learned threshold, above 0.
        levels: ``L`` of the paper, the number of steps to train for, at least 1.

    Source: Bu, Fang, Ding, Dai, Yu, Huang, Optimal ANN-SNN Conversion for High-accuracy and Ultra-low-latency Spiking
    Neural Networks, ICLR 2022, equations 15 and 16.
    """

    def __init__(self, threshold: float = 8.0, levels: int = 4) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(positive("QCFS", "threshold", threshold)))
        self.levels = integer("QCFS", "levels", levels)

    def forward(self, x: Tensor) -> Tensor:
        """``[...]`` -> ``[...]``."""
        # The gradient is that of the clip.
        u = torch.clamp(x / self.threshold, 0, 1)
        steps = torch.floor(u.detach() * self.levels + 0.5) / self.levels
        return (u + (steps - u).detach()) * self.threshold

    def extra_repr(self) -> str:
        """Return the constants."""
        return f"threshold={self.threshold.item():g}, levels={self.levels}"


class Quantised(Analog):
    """A trainable traced network with :class:`QCFS` in place of its neurons; it has the same parts.

    Args:
        network: the network whose parts it takes.
        nodes: the nodes to run, by name.
        result: name of the node that returns the scores.
        layers: one layer for every spiking node.
    """

    def __init__(self, network: Analog, nodes: dict[str, AnalogNode], result: str, layers: Sequence[QCFS]) -> None:
        super().__init__()
        registries = (network._parameters, network._buffers, network._modules)
        parts: dict[str, Any] = {k: part for registry in registries for k, part in registry.items()}
        del parts["spiking"]
        learned = {f"qcfs{i}": layer for i, layer in enumerate(layers)}
        names = iter(learned)
        self.nodes = [
            replace(node, kind="affine", op="call_module", target=next(names)) if node.kind == "spiking" else node
            for node in nodes.values()
        ]
        self.result = result
        self.take({**parts, **learned})

    def forward(self, images: Tensor) -> Tensor:
        """Map images to scores."""
        scores: Tensor = self.run(self.nodes, images)[self.result]
        return scores
