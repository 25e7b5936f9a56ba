"""Intensities to Bernoulli spikes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.reference.poisson import check_range


class Simple(nn.Module):
    """Spikes with probability ``min(1, x / scale)`` at every step, independently.

    The encoder of n3ml's BP-STDP procedure: with its default scale a white pixel fires in one step
    of five. Random numbers are those of :func:`snnfast.ops.poisson`. Not differentiable.

    Args:
        time_interval: number of steps.
        scale: the intensity that fires at every step.
        generator: where to draw seeds from; PyTorch's own generator if None.
        dtype: of the spikes: bool, uint8, float32, float64, bfloat16 or float16.
        validate: look whether intensities are negative or NaN, which on CUDA waits for the device;
            see :func:`snnfast.ops.poisson`.

    Example:
        >>> encoder = snnfast.encoder.Simple(time_interval=20)
        >>> encoder(torch.rand(1, 28, 28)).shape
        torch.Size([20, 1, 28, 28])
    """

    def __init__(
        self,
        time_interval: int = 100,
        scale: float = 5.0,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        validate: bool = True,
    ) -> None:
        super().__init__()
        steps = check.number("Simple", "time_interval", time_interval)
        if steps < 0 or steps != round(steps):
            raise ValueError(
                f"Simple: time_interval must be a number of steps, got {time_interval}"
            )
        self.time_interval = int(steps)
        self.scale = check.number("Simple", "scale", scale)
        if self.scale <= 0:
            raise ValueError(f"Simple: scale must be positive, got {self.scale:g}")
        self.generator, self.dtype, self.validate = generator, dtype, validate

    def forward(self, x: Tensor) -> Tensor:
        """Spikes ``[time_interval, ...]`` of intensities ``[...]``, each at least 0.

        Raises:
            TypeError: if ``x`` is not a tensor of real numbers.
            ValueError: if an intensity is negative or NaN.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"Simple: x must be a tensor, got {type(x).__name__}")
        if x.is_complex():
            raise TypeError(f"Simple: x must be real numbers, got {x.dtype}")
        x = x.detach().to(torch.float32)
        if self.validate:
            check_range("Simple", "x", x, 0.0, math.inf)
        return ops.poisson(
            x / self.scale,
            self.time_interval,
            generator=self.generator,
            dtype=self.dtype,
            validate=False,
        )

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"time_interval={self.time_interval}, scale={self.scale:g}, dtype={self.dtype}"
