"""Pooling of firing rates: :class:`RatePool`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnfast import check, ops

from .state import Stateful

__all__ = ["RatePool"]


class RatePool(Stateful):
    """Pooling of the spike counts so far, of which every step gives the increase.

    ::

        n[t] = n[t-1] + x[t]
        y[t] = pool(n[t]) - pool(n[t-1])

    With ``nn.MaxPool2d`` a window spikes whenever the largest spike count in it grows, so the rate of its output is the
    largest rate in the window at every step; ``Time(nn.MaxPool2d(2))`` spikes whenever any neuron of the window does.
    :meth:`snnfast.conversion.SpikingNetwork.sequential` puts it in the place of max pooling behind neurons.

    Args:
        pool: pooling without parameters, such as ``nn.MaxPool2d(2)``.
        stateful: keep the counts between calls; see :class:`snnfast.nn.state.Stateful`.

    Raises:
        TypeError: if ``pool`` is no module.

    Example:
        >>> net = nn.Sequential(IF(), RatePool(nn.MaxPool2d(2)))
        >>> net(torch.rand(25, 8, 3, 12, 12)).shape
        torch.Size([25, 8, 3, 6, 6])
    """

    states = ("count",)
    surrogate = None
    count: Tensor | None

    def __init__(self, pool: nn.Module, *, stateful: bool = False) -> None:
        super().__init__(stateful=stateful)
        check.module("RatePool", "pool", pool)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Spikes ``[T, B, ...]``, also of int8, -> their pooled spikes in the dtype of ``x``."""
        values = x.float() if x.dtype == torch.int8 else x  # counts below 2^24 are exact
        (count,) = self._load_states(values)
        counts, last = ops.li(values, count, decay=1.0, decay_input=False)
        before = torch.zeros_like(last) if count is None else count
        every = torch.cat([before.unsqueeze(0), counts])
        pooled: Tensor = self.pool(every.flatten(0, 1)).unflatten(0, every.shape[:2])
        self._store_states(last)
        return (pooled[1:] - pooled[:-1]).to(x.dtype)
