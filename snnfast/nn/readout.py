"""Readouts: from a sequence to one value a neuron."""

from __future__ import annotations

from torch import Tensor, nn

from snnfast import check

__all__ = ["Count", "Rate"]


class Rate(nn.Module):
    """Spikes per step: the mean over time of ``[T, ...]``, NaN without steps.

    Its gradient is the same at every step: a view with stride 0 over time, which the kernels read
    in place.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, ...]`` -> ``[...]``."""
        check.sequence("Rate", x)
        # The gradient of x.mean(0) would be written for every step.
        return x.sum(0) / x.shape[0]


class Count(nn.Module):
    """Spikes in all: the sum over time of ``[T, ...]``; gradient like :class:`Rate`'s."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, ...]`` -> ``[...]``."""
        check.sequence("Count", x)
        return x.sum(0)
