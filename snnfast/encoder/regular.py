"""Intensities to evenly spaced spikes with a random lag."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from snnfast import check

from .latency import real

# Phases and rates are whole numbers of 1 / UNITS; the sum of two, at most 2, is still an int32.
UNITS = 2**29


class Intensities(nn.Module):
    """Base of the encoders of intensities, with their settings."""

    name: ClassVar[str]

    def __init__(
        self,
        num_steps: int = 100,
        scale: float = 5.0,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        validate: bool = True,
    ) -> None:
        super().__init__()
        self.num_steps = number_of_steps(self.name, "num_steps", num_steps)
        check.generator(self.name, generator)
        check.spike_dtype(self.name, dtype)
        self.scale = check.positive(self.name, "scale", scale)
        self.validate = check.flag(self.name, "validate", validate)
        self.generator, self.dtype = generator, dtype
        self._warned = False

    def _check(self, x: Tensor) -> None:
        """Refuse intensities that are negative or NaN; warn once of a scale that most intensities exceed."""
        check.in_range(self.name, "x", x, 0.0, math.inf)
        if self._warned or not x.numel() or not check.reads_values(True, x.device):
            return
        largest = x.max().item()
        if 10 * self.scale <= largest < math.inf:
            self._warned = True
            check.warn(
                f"{self.name}: x goes up to {largest:g}, and all intensities from scale={self.scale:g} on fire at "
                "every step; bytes of images are scaled to [0, 1] first: x / 255"
            )

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        return f"num_steps={self.num_steps}, scale={self.scale:g}, dtype={self.dtype}"


class RegularEncoder(Intensities):
    """Spikes at even distances, ``scale / x`` steps on average, after a random lag.

    Each element draws a phase from U[0, 1) and fires where ``phase + t r`` passes a whole number::

        floor(phase + (t + 1) r) > floor(phase + t r),    r = min(1, x / scale)

    So the number of spikes in T steps is ``T r`` rounded up or down, where :class:`BernoulliEncoder` has a variance of
    ``T r (1 - r)``: every presentation of an intensity has nearly the same spike count. Not differentiable.

    Args:
        num_steps: number of steps T.
        scale: the intensity that fires at every step.
        generator: where to draw phases from, on the CPU; PyTorch's own if None.
        dtype: of the spikes: bool, uint8, float32, float64, bfloat16 or float16.
        validate: check whether intensities are negative or NaN, which on CUDA waits for the device. With False neither
            fires.

    Raises:
        TypeError, ValueError: for a number out of range.

    Source: Tavanaei and Maida, BP-STDP, Neurocomputing 330 (2019), section 4: rates proportional to the intensity, with
    a random lag.

    Example:
        >>> RegularEncoder(num_steps=10, scale=1.0)(torch.tensor([0.5, 0.2])).sum(0)
        tensor([5., 2.])
    """

    name = "RegularEncoder"

    def forward(self, x: Tensor) -> Tensor:
        """Spikes ``[num_steps, ...]`` of intensities ``[...]``, each at least 0.

        Raises:
            TypeError: if ``x`` is not a tensor of real numbers.
            ValueError: if an intensity is negative or NaN.
        """
        x = real("RegularEncoder", "x", x)
        if self.validate:
            self._check(x.to(torch.float32))
        # Whole numbers, drawn on the CPU: no step is lost to rounding, and all devices give the same spikes.
        phase = torch.rand(x.shape, generator=self.generator)
        level = (phase * UNITS).to(x.device, torch.int32)
        rate = (x.double() / self.scale).clamp(0, 1).nan_to_num_(0).mul_(UNITS).round_().int()
        spikes = torch.empty((self.num_steps, *x.shape), dtype=self.dtype, device=x.device)
        for s in spikes:
            level += rate
            s.copy_(level >= UNITS)
            level &= UNITS - 1
        return spikes


def number_of_steps(encoder: str, name: str, value: float) -> int:
    """Return ``value`` as a whole number of steps, at least 0; errors call it ``name``."""
    steps = check.number(encoder, name, value)
    if steps < 0 or steps != round(steps):
        raise ValueError(f"{encoder}: {name} must be a number of steps, got {value}")
    return int(steps)
