"""Network of SpikeProp with leaky integrate-and-fire neurons, which may fire several times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnfast.nn import EventProp, calibrate, loss


class LIFNetwork(nn.Module):
    """Layers of :class:`snnfast.nn.EventProp`; the first output spike decides.

    Args:
        in_features: inputs.
        hidden: hidden neurons, one number per layer.
        out_features: outputs, one per class.
        max_spikes: largest number of spikes of a hidden neuron; outputs fire once.
        virtual: scale of the times of silent outputs, in milliseconds; see :func:`snnfast.loss.virtual_times`.
        **options: arguments of the layers, such as ``tau_mem``, ``tau_syn`` and ``t_max``.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        *,
        max_spikes: int = 1,
        virtual: float = 4.0,
        **options: Any,
    ) -> None:
        super().__init__()
        sizes = [*pairwise([in_features, *hidden, out_features])]
        spikes = [*(max_spikes for _ in hidden), 1]
        self.layers = nn.ModuleList(
            EventProp(*size, max_spikes=most, stops=True, **options) for size, most in zip(sizes, spikes)
        )
        self.virtual = virtual

    def reset_parameters(self, low: float, high: float) -> None:
        """Draw the weights of every layer; see :meth:`snnfast.nn.EventProp.reset_parameters`."""
        for layer in self.layers:
            cast(EventProp, layer).reset_parameters(low, high)

    def calibrate(self, t: Tensor, mean_times: Sequence[float]) -> None:
        """Scale weights so that each layer first fires at its mean time; see :func:`snnfast.nn.calibrate`."""
        with torch.no_grad():
            for layer, mean_time in zip(self.layers, mean_times):
                calibrate(cast(EventProp, layer), t, mean_time)
                t = layer(t)

    def forward(self, t: Tensor) -> Tensor:
        """Map input spike times ``[B, in_features]`` to first output spike times ``[B, out_features]``, in ms."""
        *hidden, last = self.layers
        for layer in hidden:
            t = layer(t)
        fired, u_max = last(t, return_u_max=True)
        t_max = cast(float, last.t_max)
        return loss.virtual_times(fired[..., 0], u_max, t_max=t_max, scale=self.virtual)
