"""Readouts: from a sequence to one value a neuron."""

from __future__ import annotations

from torch import Tensor, nn

from snnfast import check

__all__ = ["Count", "Rate"]


class Rate(nn.Module):
    """Spikes per step: the mean over time of ``[T, ...]``, NaN without steps; summed in float32 at least.

    Its gradient is the same at every step: a view with stride 0 over time, which the kernels read
    in place.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, ...]`` -> ``[...]``."""
        check.sequence("Rate", x)
        # The gradient of x.mean(0) would be written for every step.
        return (_sum(x) / x.shape[0]).to(x.dtype)


class Count(nn.Module):
    """Spikes in all: the sum over time of ``[T, ...]``, in float32 at least, then of ``x``'s dtype; gradient like :class:`Rate`'s."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, ...]`` -> ``[...]``."""
        check.sequence("Count", x)
        return _sum(x).to(x.dtype)


def _sum(x: Tensor) -> Tensor:
    """The sum over time, in float32 at least: 16 bits would count no further than 256 or 2048."""
    return x.sum(0, dtype=check.state_dtype(x.dtype))
