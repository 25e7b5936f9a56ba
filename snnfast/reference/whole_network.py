"""Spikes of a whole network in a call that computes a part of its neurons; snnfast.connect.Part exchanges them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .noise import noise_of_step
from .spike_events import SpikeEvents


class WholeNetwork:
    """The network of a call with a part.

    Args:
        numbers: the field ``part`` of a call: neurons of the network, first neuron of the call, steps between
            exchanges, key of the part, steps before the first.
        x: inputs of the call's neurons, all inputs of a sample side by side.
    """

    def __init__(self, numbers: list[int], x: Tensor) -> None:
        from snnfast.connect.part import part_of

        self._total, self._first, self._window, key, self._before = numbers
        self._part, self._x = part_of(key), x
        self._all: list[Tensor] = []  # spikes of all neurons at the steps before the first, and until the last exchange

    def noise(self, t: int, *fields: Any) -> Tensor:
        """Return the noise of the call's neurons, from that of all; as :func:`noise_of_step`."""
        *batch, targets = self._x.shape[1:]
        H = len(self._part.neurons)
        drawn = noise_of_step((*batch, targets // H * self._total), t, *fields)
        by_input = drawn.view(*batch, -1, self._total)
        return by_input[..., self._first : self._first + H].flatten(-2)

    def spikes(self, t: int, computed: list[Tensor]) -> list[Any]:
        """Return the spikes of all neurons at the steps before step ``t``; None at those not exchanged yet.

        ``computed``: spikes of the call's neurons at the steps 0 to ``t - 1``.
        """
        T, *batch, _ = self._x.shape
        if t % self._window == 0 or t == T:
            begin, samples, sent = len(self._all) - self._before, torch.Size(batch).numel(), None
            if t > 0:
                fired = SpikeEvents.from_dense(torch.stack(computed[begin:]))
                sent = torch.stack([fired.step + begin, fired.sample, fired.neuron], 1).numpy()
            step, sample, neuron = torch.from_numpy(self._part.exchange(0, samples, t, sent)).T
            found = SpikeEvents(step - begin, sample, neuron, (t - begin, *batch, self._total), self._x.dtype)
            self._all += found.dense()
        return [*self._all, *[None] * (t + self._before - len(self._all))]
