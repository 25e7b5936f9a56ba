"""Rates in Hz to Poisson spike trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnfast import check, ops

from .latency import real


class PoissonEncoder(nn.Module):
    """Poisson spike trains of given rates, in steps of ``dt`` milliseconds.

    Every step and element fires independently with probability ``rate dt / 1000`` (Gerstner et al.,
    Neuronal Dynamics, chapter 7), see :func:`snnfast.ops.poisson` for where the random numbers
    come from. Not differentiable.

    n3ml's encoder of this name is another process: it draws the intervals between spikes, in steps,
    from a Poisson *distribution* of mean ``1000 / (rate dt)``. Its rates are the same, its trains
    are far more regular (coefficient of variation of an interval of m steps ``1 / sqrt(m)``, here
    ``sqrt(1 - 1/m)``), and a first spike comes after one whole interval.

    Args:
        duration: length of the spike trains in milliseconds, a multiple of ``dt``.
        dt: length of a step in milliseconds.
        generator: where to draw seeds from; PyTorch's own generator if None.
        dtype: of the spikes: bool, uint8, float32, float64, bfloat16 or float16.
        validate: check whether the rates are possible, which on CUDA waits for the device; see
            :func:`snnfast.ops.poisson`.

    Example:
        >>> encoder = snnfast.encoder.PoissonEncoder(250)
        >>> encoder(torch.rand(1, 28, 28) * 128).shape
        torch.Size([250, 1, 28, 28])
    """

    def __init__(
        self,
        duration: float,
        dt: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        validate: bool = True,
    ) -> None:
        super().__init__()
        self.duration = check.number("PoissonEncoder", "duration", duration)
        self.dt = check.positive("PoissonEncoder", "dt", dt)
        check.generator("PoissonEncoder", generator)
        check.spike_dtype("PoissonEncoder", dtype)
        self.num_steps = round(self.duration / self.dt)
        if self.num_steps < 0 or abs(self.num_steps * self.dt - self.duration) > 1e-6 * self.dt:
            raise ValueError(
                f"PoissonEncoder: duration must be a multiple of dt = {self.dt:g} ms, got {self.duration:g} ms"
            )
        self.validate = check.flag("PoissonEncoder", "validate", validate)
        self.generator, self.dtype = generator, dtype

    def forward(self, rates: Tensor) -> Tensor:
        """Spikes ``[duration / dt, ...]`` of rates ``[...]`` in Hz, each in [0, 1000 / dt].

        Raises:
            TypeError: if ``rates`` is not a tensor of real numbers.
            ValueError: if a rate is negative, NaN, or more than one spike a step.
        """
        rates = real("PoissonEncoder", "rates", rates).to(torch.float32)
        if self.validate:
            check.in_range("PoissonEncoder", "rates", rates, 0.0, 1000.0 / self.dt, " Hz")
        return ops.poisson(
            rates * (self.dt / 1000.0), self.num_steps, generator=self.generator, dtype=self.dtype, validate=False
        )

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        return f"duration={self.duration:g}, dt={self.dt:g}, dtype={self.dtype}"
