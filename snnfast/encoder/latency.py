"""Intensities to the time of one spike each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnfast import check


class LatencyEncoder(nn.Module):
    """Time to first spike: the more intense, the earlier.

    ::

        t = t_max (1 - x)        silent (inf) if x <= threshold

    Not differentiable.

    Args:
        t_max: time of an intensity of 0, in milliseconds.
        threshold: intensities up to it do not fire; None lets all fire.
        dt: times are multiples of it, in milliseconds (halves go to the even multiple), none of them later than
            ``t_max``; None does not round.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range.

    Example:
        >>> snnfast.encoder.LatencyEncoder(10.0)(torch.tensor([1.0, 0.25, 0.0]))
        tensor([0.0000, 7.5000,    inf])
    """

    def __init__(self, t_max: float, *, threshold: float | None = 0.0, dt: float | None = None) -> None:
        super().__init__()
        self.t_max = check.positive("LatencyEncoder", "t_max", t_max)
        self.threshold = None if threshold is None else check.number("LatencyEncoder", "threshold", threshold)
        self.dt = None if dt is None else check.positive("LatencyEncoder", "dt", dt)

    def forward(self, x: Tensor) -> Tensor:
        """Intensities in [0, 1] of any shape -> spike times of that shape, ``inf`` for silent.

        float32, or float64 for float64 intensities.

        Raises:
            TypeError: if ``x`` is not a tensor of real numbers.
            ValueError: if an intensity lies outside [0, 1].
        """
        x = features("LatencyEncoder", "x", x)
        outside = x[(x < 0) | (x > 1)]
        if len(outside):
            raise ValueError(f"LatencyEncoder: x must lie in [0, 1], got {outside[0]:g}")
        t = on_grid(self.t_max * (1 - x), self.dt, self.t_max)
        return t if self.threshold is None else t.masked_fill(x <= self.threshold, torch.inf)

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        return f"t_max={self.t_max:g}, threshold={self.threshold}, dt={self.dt}"


def features(encoder: str, name: str, x: Tensor | Sequence[float]) -> Tensor:
    """Return ``x`` as finite float32, or as float64 if it is that or a sequence of numbers."""
    if not isinstance(x, Tensor):
        try:
            x = torch.as_tensor(x, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise TypeError(f"{encoder}: {name} must be a tensor, got {type(x).__name__}") from None
    x = real(encoder, name, x)
    if not x.isfinite().all():
        bad = x[~x.isfinite()][0]
        raise ValueError(f"{encoder}: {name} must be finite, got {bad:g}")
    return x if x.dtype == torch.float64 else x.float()


def real(encoder: str, name: str, x: object) -> Tensor:
    """Return ``x`` without its gradient; require a tensor of real numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{encoder}: {name} must be a tensor, got {type(x).__name__}")
    if x.is_complex():
        raise TypeError(f"{encoder}: {name} must be real numbers, got {x.dtype}")
    return x.detach()


def on_grid(t: Tensor, dt: float | None, last: float) -> Tensor:
    """Round ``t`` to multiples of ``dt``, none of them after ``last``."""
    if dt is None:
        return t
    steps = math.floor(last / dt + 1e-6)  # 0.3 / 0.1 counts as 3
    return t.div(dt).round_().clamp_(max=steps).mul_(dt)
