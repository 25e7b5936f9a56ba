"""Network of Bohte et al. 2002, trained by SpikeProp."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.nn import SpikeProp, calibrate, loss
from snnfast.ops.spikeprop import Pull


class Bohte2002(nn.Module):
    """Layers of :class:`snnfast.nn.SpikeProp` neurons, which fire once; inputs and outputs are spike times.

    Without arguments it is the paper's network for Iris: 50 inputs, 10 hidden neurons, 3 outputs, and 16 synapses of
    different delays from each neuron to each neuron of the next layer. The first output spike decides.

    Args:
        in_features: inputs.
        hidden: hidden neurons; several numbers for several hidden layers.
        out_features: outputs, one per class.
        delays: the number of terminals of each connection, with delays 1, 2, ... ms; or the delays themselves, as in
            the layer.
        v_threshold: the threshold of all neurons.
        tau: time constant, in milliseconds.
        t_max: end of the observation of every layer, in milliseconds.
        dt: None for exact times; 1.0 for n3ml's whole milliseconds.
        virtual: None: silent outputs are ``inf``. A number of milliseconds: they get the times of
            :func:`snnfast.loss.virtual_times`, after ``t_max``, with this ``scale``, and so have a gradient.
        **options: arguments of the layers, such as ``slope_min`` and ``learn_delays``.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; ``forward`` raises the errors of the op.

    Source: Bohte, Kok, La Poutre, Error-backpropagation in temporally encoded networks of spiking neurons,
    Neurocomputing 48 (2002).

    Example:
        >>> net = Bohte2002()
        >>> net(torch.rand(8, 50) * 10).shape
        torch.Size([8, 3])
    """

    def __init__(
        self,
        in_features: int = 50,
        hidden: int | Sequence[int] = 10,
        out_features: int = 3,
        delays: int | Sequence[float] | Tensor = 16,
        v_threshold: float = 1.0,
        tau: float = 7.0,
        *,
        t_max: float = 40.0,
        dt: float | None = None,
        virtual: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        between = check.sizes("Bohte2002", "hidden", [hidden] if isinstance(hidden, int) else hidden)
        self.layers = nn.ModuleList(
            SpikeProp(n_in, n_out, delays, tau=tau, v_threshold=v_threshold, t_max=t_max, dt=dt, **options)
            for n_in, n_out in pairwise([in_features, *between, out_features])
        )
        for i, layer in enumerate(self._spiking()):
            layer.name = f"layers.{i}"
        self.v_threshold, self.t_max = float(v_threshold), float(t_max)
        self.virtual = None if virtual is None else check.number("Bohte2002", "virtual", virtual)

    def reset_parameters(self, low: float = -0.5, high: float = 1.0) -> None:
        """Draw the weights of every layer; see :meth:`snnfast.nn.SpikeProp.reset_parameters`."""
        for layer in self._spiking():
            layer.reset_parameters(low, high)

    def draw_weights(self, low: float, high: float) -> None:
        """Draw the weights from U(low, high), without scaling by their number."""
        for layer in self._spiking():
            nn.init.uniform_(layer.weight, low, high)

    def calibrate(self, t: Tensor, mean_times: Sequence[float]) -> None:
        """Scale the weights of each layer so that its neurons fire at ``mean_times[layer]`` on average.

        The mean is over the inputs ``t`` ``[B, in_features]``; see :func:`snnfast.nn.calibrate`. After an error all
        weights are unchanged.
        """
        if len(mean_times) != len(self.layers):
            raise ValueError(
                f"Bohte2002: mean_times must hold a time for each of {len(self.layers)} layers, got {len(mean_times)}"
            )
        layers = self._spiking()
        before = [layer.weight.detach().clone() for layer in layers]
        with torch.no_grad():
            try:
                t = self._heard(t)
                for layer, mean_time in zip(layers, mean_times):
                    calibrate(layer, t, mean_time)
                    t = layer(t)
            except BaseException:
                for layer, weight in zip(layers, before):
                    layer.weight.copy_(weight)
                raise

    def forward(self, t: Tensor) -> Tensor:
        """Map spike times of the inputs ``[B, in_features]`` to those of the outputs ``[B, out_features]``, in ms.

        One sample ``[in_features]`` gives ``[out_features]``. Inputs at ``inf``, or at -1 as in n3ml's encoder, do not
        fire.
        """
        return self.spike_times(t)[-1]

    def spike_times(self, t: Tensor) -> list[Tensor]:
        """Return the spike times of the inputs and of every layer, one tensor each."""
        check.tensor("Bohte2002", "t", t)
        check.dtype("Bohte2002", "t", t.dtype, check.REAL)
        batch = t if t.dim() == 2 else t[None]
        times = [self._heard(batch)]
        *hidden, last = self._spiking()
        for layer in hidden:
            times.append(layer(times[-1]))
        if self.virtual is None:
            times.append(last(times[-1]))
        else:
            fired, u_max = last(times[-1], return_u_max=True)
            times.append(
                loss.virtual_times(fired, u_max, t_max=self.t_max, v_threshold=self.v_threshold, scale=self.virtual)
            )
        return times if t.dim() == 2 else [x[0] for x in times]

    @property
    def weights_only(self) -> bool:
        """Whether only separate weights of each layer are learned, and no output time is virtual."""
        return self.virtual is None and all(
            layer.signs is None
            and layer.weight.requires_grad
            and not layer.delays.requires_grad
            and not isinstance(layer.tau, Tensor)
            for layer in self._spiking()
        )

    def untracked(self, t: Tensor) -> tuple[Tensor, list[tuple[Tensor, Pull]]]:
        """Return output times, and per layer its weight and the function of :meth:`snnfast.nn.SpikeProp.untracked`."""
        t = self._heard(t)
        pulls = []
        for layer in self._spiking():
            t, pull = layer.untracked(t)
            pulls.append((layer.weight, pull))
        return t, pulls

    def _heard(self, t: Tensor) -> Tensor:
        """Convert times for the layers: inf instead of -1, in the dtype of the weights."""
        return t.to(self._spiking()[0].weight.dtype).masked_fill(t == -1, torch.inf)

    def _spiking(self) -> list[SpikeProp]:
        return [layer for layer in self.layers if isinstance(layer, SpikeProp)]
