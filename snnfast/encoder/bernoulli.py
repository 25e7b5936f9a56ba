"""Intensities to Bernoulli spikes."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import ops
from snnfast.ops import Rates

from .latency import real
from .regular import Intensities


class BernoulliEncoder(Intensities):
    """Spikes with probability ``min(1, x / scale)`` at every step, independently.

    The encoder of n3ml's BP-STDP procedure: with its default scale a white pixel fires in one step
    of five. Random numbers are those of :func:`snnfast.ops.poisson`. Not differentiable.

    Args:
        num_steps: number of steps.
        scale: the intensity that fires at every step.
        generator: where to draw seeds from; PyTorch's own generator if None.
        dtype: of the spikes: bool, uint8, float32, float64, bfloat16 or float16.
        validate: check that no intensity is negative or NaN, which on CUDA waits for the device; see
            :func:`snnfast.ops.poisson`.

    Example:
        >>> encoder = snnfast.encoder.BernoulliEncoder(num_steps=20)
        >>> encoder(torch.rand(1, 28, 28)).shape
        torch.Size([20, 1, 28, 28])
    """

    name = "BernoulliEncoder"

    def forward(self, x: Tensor) -> Tensor:
        """Spikes ``[num_steps, ...]`` of intensities ``[...]``, each at least 0.

        Raises:
            TypeError: if ``x`` is not a tensor of real numbers.
            ValueError: if an intensity is negative or NaN.
        """
        return ops.poisson(
            self._probability(x), self.num_steps, generator=self.generator, dtype=self.dtype, validate=False
        )

    def seeds(self, samples: int) -> Tensor:
        """Draw the seeds, int64 ``[samples]``, of as many calls with one sample each; for :meth:`rates`."""
        device = None if self.generator is None else self.generator.device
        return torch.randint(2**63 - 1, (samples,), generator=self.generator, device=device)

    def rates(self, x: Tensor, seeds: Tensor | None = None) -> Rates:
        """Return rates and seeds of the spikes of each sample of ``x`` ``[B, ...]``, for an op that draws the spikes.

        Steps are of a second (``dt=1000``), so that rates in Hz are probabilities.

        Raises:
            TypeError, ValueError: as in a call.
        """
        hz = self._probability(x).clamp(max=1).flatten(1)
        seeds = self.seeds(len(hz)) if seeds is None else seeds
        return Rates(hz, self.num_steps, seeds.to(hz.device))

    def _probability(self, x: Tensor) -> Tensor:
        x = real("BernoulliEncoder", "x", x).to(torch.float32)
        if self.validate:
            self._check(x)
        return x / self.scale
