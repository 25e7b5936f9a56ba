"""Codes of features as spike times, and noise on both."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast.encoder import LatencyEncoder, PopulationEncoder
from snnfast_zoo.train import samples
from snnfast_zoo.train.fit import Augment

from .settings import SpikepropSettings


def noisy(settings: SpikepropSettings, x: Tensor) -> Tensor:
    """Return noisy copies ``[copies N, F]`` of the training features ``[N, F]``, the same for every run of a seed."""
    copies = x.repeat(settings.copies, 1)
    if not settings.noise:
        return copies
    generator = torch.Generator().manual_seed(settings.seed)
    spread = settings.noise * (x.amax(0) - x.amin(0))
    return copies + spread * torch.randn(copies.shape, generator=generator)


def coder(settings: SpikepropSettings, train: Tensor) -> nn.Module:
    """Return the encoder of features ``[N, F]`` into spike times ``[N, I]``, fitted to the training part."""
    low, high = train.amin(0), train.amax(0)
    if settings.code == "population":
        encoder = PopulationEncoder(settings.fields, low, high, settings.span, settings.span, beta=settings.beta)
        return _Code(encoder, settings.bias)
    latency = LatencyEncoder(settings.span, threshold=settings.threshold)
    if settings.dataset in ("iris", "cancer", "xor"):
        return _Code(latency, settings.bias, low, high)
    return _Code(latency, settings.bias, 0.0, 1.0)  # pixels: noise may exceed the bounds


class _Code(nn.Module):
    """An encoder of features, scaled to [0, 1] if bounded, with ``bias`` inputs that always fire at 0."""

    def __init__(self, encoder: nn.Module, bias: int, low: Any = None, high: Any = None) -> None:
        super().__init__()
        self.encoder, self.bias, self.low, self.high = encoder, bias, low, high

    def forward(self, x: Tensor) -> Tensor:
        if self.low is not None:
            x = ((x - self.low) / (self.high - self.low)).clamp(0, 1)
        return F.pad(self.encoder(x).flatten(1), (0, self.bias))


def augmentation(settings: SpikepropSettings) -> Augment | None:
    """Return the map from input times ``[B, I]`` and labels to augmented ones; None without augmentation.

    Random numbers are drawn on the CPU, so that every device sees the same.
    """
    if not (settings.shift or settings.jitter):
        return None

    def augment(t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if settings.shift:
            pixels = t[:, : t.shape[1] - settings.bias]
            moved = samples.moved(pixels, settings.shift, empty=math.inf)
            t = torch.cat([moved, t[:, pixels.shape[1] :]], 1)
        if settings.jitter:  # no spike before 0; inf stays inf
            t = (t + (torch.randn(t.shape) * settings.jitter).to(t)).clamp(min=0)
        return t, labels

    return augment
