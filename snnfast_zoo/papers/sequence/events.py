"""A network of neurons by exact events, for the classification of recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.nn import EventProp, EventReadout, calibrate


class EventNetwork(nn.Module):
    """LIF neurons by exact events, learned by EventProp, for frames ``[B, T, in_features]`` of spikes.

    An input fires at the time of each step whose frame is above 0; times are in steps. The scores are the mean or the
    largest potentials of leaky integrators.

    Args:
        in_features: number of inputs.
        hidden: neurons of each layer.
        num_classes: number of classes.
        num_steps: steps of a recording; neurons run for a fifth longer.
        recurrent: whether the spikes of a layer return to it.
        readout: ``"mean"`` or ``"max"`` potential.
        tau: membrane time constant in steps; that of the currents is a quarter of it.
        max_spikes: largest number of spikes of a neuron, after which it is silent.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for frames of another shape.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        num_classes: int,
        *,
        num_steps: int,
        recurrent: bool = False,
        readout: str = "mean",
        tau: float = 20.0,
        max_spikes: int = 8,
    ) -> None:
        super().__init__()
        self.in_features, self.num_steps = in_features, check.integer("EventNetwork", "num_steps", num_steps)
        constants: dict[str, Any] = {"tau_mem": tau, "tau_syn": tau / 4, "t_max": 1.2 * num_steps}
        sizes = in_features, *check.sizes("EventNetwork", "hidden", hidden)
        self.layers = nn.ModuleList(
            EventProp(*size, recurrent=recurrent, max_spikes=max_spikes, stops=True, slope_min=1.0, **constants)
            for size in pairwise(sizes)
        )
        self.output = EventReadout(sizes[-1], num_classes, readout, **constants)

    def times(self, x: Tensor) -> Tensor:
        """Return the spike times ``[B, in_features, T]`` of frames ``[B, T, in_features]``; inf where none is."""
        check.shape("EventNetwork", "x", x, ("B", self.num_steps, self.in_features))
        steps = torch.arange(float(self.num_steps), device=x.device)[:, None]
        return torch.where(x > 0, steps, math.inf).transpose(1, 2).to(self.output.weight).contiguous()

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Scale the weights: neurons first fire after a quarter of the steps, and scores have a deviation of 1."""
        t = self.times(x)
        for layer in self.layers:
            calibrate(cast(EventProp, layer), t, self.num_steps / 4)
            t = layer(t)
        self.output.weight.div_(self.output(t).std() + 1e-6)

    def spike_times(self, x: Tensor) -> list[Tensor]:
        """Return the spike times of each layer of neurons, ``[B, neurons, max_spikes]``."""
        t = self.times(x)
        return [t := layer(t) for layer in self.layers]

    def spikes(self, x: Tensor) -> list[Tensor]:
        """Return the spikes of each neuron per step of the recording, ``[B, neurons]`` for each layer."""
        return [t.isfinite().sum(-1) / self.num_steps for t in self.spike_times(x)]

    def forward(self, x: Tensor) -> Tensor:
        """Map frames ``[B, T, in_features]`` to scores ``[B, num_classes]``."""
        scores: Tensor = self.output(self.spike_times(x)[-1])
        return scores
