"""Layers of :class:`snnfast.papers.TavanaeiAndMaida2017`, and statistics of its training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast import check
from snnfast.nn.loss import bp_stdp_loss

from ..networks import Draws, Setting, setting_of

NAME = "TavanaeiAndMaida2017"


class Layer(nn.Module):
    """Integrate-and-fire neurons after a dense layer without bias.

    With K networks each tensor is ``[K, ...]``.

    Attributes:
        weight: ``[out_features, in_features]``; has no gradient.
        threshold: threshold; a neuron that fires resets to 0. Or a list, one per network.
        u: membrane potentials ``[out_features]`` or ``[B, out_features]``.
        o: spikes of the last step, 0 or 1, of the same shape.
    """

    u: Tensor
    o: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        threshold: Setting,
        std: Setting,
        networks: tuple[int, ...],
        draws: Draws,
    ) -> None:
        super().__init__()
        count = networks[0] if networks else None
        self.threshold = check.setting(NAME, "threshold", threshold, count, check.positive)
        self.std = check.setting(NAME, "std", std, count, check.at_least_zero)
        w = torch.empty(*networks, out_features, in_features)
        self.weight, self._draws = nn.Parameter(w, requires_grad=False), draws
        self.register_buffer("u", torch.zeros(w.shape[:-1]), persistent=False)
        self.register_buffer("o", torch.zeros(w.shape[:-1]), persistent=False)
        self.reset_parameters()

    def reset(self) -> None:
        """Reset the neurons to rest."""
        self.u = self.weight.new_zeros(self.weight.shape[:-1])
        self.o = torch.zeros_like(self.u)

    def reset_parameters(self) -> None:
        """Draw the weights from N(0, std^2)."""
        w = self.weight.detach()
        shape, dtype = w.shape[-2:], w.dtype
        w.copy_(self._draws(lambda k: torch.empty(shape, dtype=dtype).normal_(std=setting_of(self.std, k))))

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        out_features, in_features = self.weight.shape[-2:]
        thresholds = self.threshold if isinstance(self.threshold, list) else [self.threshold]
        return f"{in_features}, {out_features}, threshold={', '.join(f'{threshold:g}' for threshold in thresholds)}"


class TrainingPass(NamedTuple):
    """Statistics of a training pass over the data, taken while the weights change.

    Attributes:
        samples: number of samples presented.
        accuracy: share of correct predictions, in [0, 1]; NaN without samples. For K networks float64 ``[K]``.
        loss: :func:`snnfast.loss.bp_stdp_loss`, mean over samples; NaN without samples. For K networks float64 ``[K]``.
    """

    samples: int
    accuracy: float | Tensor
    loss: float | Tensor


class Batch(NamedTuple):
    """A batch of a loader, with its random numbers.

    Attributes:
        data: images ``[B, ...]``; spikes ``[T, B, I]``, or ``[K, ...]``, if the encoder is not ``BernoulliEncoder``.
        labels: labels ``[B]``.
        seeds: seeds of the spikes of each image, ``[B]`` or ``[K, B]``.
        uniform: uniform random numbers of the desired times, ``[B, T]`` or ``[K, B, T]``.
    """

    data: Tensor
    labels: Tensor
    seeds: Tensor
    uniform: Tensor


class Totals:
    """Accuracy and loss of each network over batches, on the device, so that a GPU does not wait."""

    def __init__(self, epsilon: int, w: Tensor) -> None:
        self.samples, self._epsilon = 0, epsilon
        self._right = w.new_zeros(w.shape[:-2], dtype=torch.int64)
        self._loss = w.new_zeros(w.shape[:-2], dtype=torch.float64)

    def add(self, spikes: Tensor, labels: Tensor, desired: Tensor) -> None:
        """Count a batch of output spikes ``[T, B, classes]``, or ``[K, ...]``."""
        wanted = desired[..., None] & F.one_hot(labels, spikes.shape[-1]).bool()
        self.samples += len(labels)
        self._right += (spikes.sum(-3).argmax(-1) == labels).sum(-1)
        if spikes.dim() == 3:
            losses = bp_stdp_loss(spikes, wanted, labels, self._epsilon)
        else:
            pairs = zip(spikes, wanted)
            losses = torch.stack([bp_stdp_loss(s, z, labels, self._epsilon) for s, z in pairs])
        self._loss += losses * len(labels)

    def result(self) -> TrainingPass:
        """Return the statistics of the samples counted so far."""
        n = self.samples or float("nan")
        if self._right.dim():
            return TrainingPass(self.samples, self._right.double() / n, self._loss / n)
        return TrainingPass(self.samples, int(self._right) / n, float(self._loss) / n)
