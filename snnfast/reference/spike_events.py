"""Spikes as events: the step and the neuron of each spike, without a tensor of all steps and neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snnfast import check


@dataclass(frozen=True, eq=False, repr=False)
class SpikeEvents:
    """Spikes of neurons over time, in order of their steps, then samples, then neurons.

    Attributes:
        step, sample, neuron: step, sample and neuron of each spike, int32 ``[spikes]``; several spikes of a neuron in a
            step are several entries. Samples are numbered across all dimensions of the batch.
        shape: sizes ``(T, ..., neurons)`` of the spikes as a dense tensor.
        dtype: dtype of the dense tensor.

    Raises:
        TypeError, ValueError: by its methods, for arguments of wrong type, shape or range.
    """

    step: Tensor
    sample: Tensor
    neuron: Tensor
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def __len__(self) -> int:
        """Return the number of spikes."""
        return len(self.step)

    def __repr__(self) -> str:
        """Return number and sizes."""
        return f"SpikeEvents({len(self)} spikes of shape {list(self.shape)})"

    @classmethod
    def from_dense(cls, spikes: Tensor) -> SpikeEvents:
        """Return the events of ``spikes`` ``[T, ..., neurons]``, numbers of spikes."""
        check.tensor("SpikeEvents", "spikes", spikes)
        if spikes.dim() < 2:
            raise ValueError(f"SpikeEvents: spikes must have shape [T, ..., neurons], got {list(spikes.shape)}")
        spikes = spikes.detach()
        flat = spikes.reshape(-1)
        # numpy compares and finds rare elements several times as fast.
        place = torch.from_numpy((flat.to("cpu", check.state_dtype(flat.dtype)).numpy() != 0).nonzero()[0])
        count = flat[place.to(flat.device)]
        if bool((count != 1).any()):
            if bool((count != count.round()).any()) or bool((count < 0).any()):
                raise ValueError("SpikeEvents: spikes must be whole numbers of at least 0, got others")
            place = place.repeat_interleave(count.long().cpu())
        neurons, samples = spikes.shape[-1], spikes.shape[1:-1].numel()
        row = place // max(neurons, 1)
        step, sample, neuron = row // max(samples, 1), row % max(samples, 1), place % max(neurons, 1)
        return cls(step.int(), sample.int(), neuron.int(), tuple(spikes.shape), spikes.dtype)

    @classmethod
    def cat(cls, parts: Sequence[SpikeEvents]) -> SpikeEvents:
        """Return the events of consecutive parts of a sequence."""
        if not parts or len({part.shape[1:] for part in parts}) > 1:
            sizes = ", ".join(str(list(part.shape)) for part in parts) or "none"
            raise ValueError(f"SpikeEvents: parts must be at least one, of the same neurons, got {sizes}")
        ends = torch.tensor([part.shape[0] for part in parts]).cumsum(0).tolist()
        step = torch.cat([part.step + start for part, start in zip(parts, (0, *ends))])
        sample, neuron = (torch.cat([getattr(part, name) for part in parts]) for name in ("sample", "neuron"))
        return cls(step.int(), sample, neuron, (ends[-1], *parts[0].shape[1:]), parts[0].dtype)

    def window(self, start: int, stop: int | None = None) -> SpikeEvents:
        """Return the events of the steps ``start`` to ``stop`` (exclusive), or to the end; step ``start`` becomes 0."""
        steps, *rest = self.shape
        stop = steps if stop is None else check.integer("window", "stop", stop, 0, steps)
        start = check.integer("window", "start", start, 0, stop)
        ends = torch.searchsorted(self.step, torch.tensor([start, stop], dtype=torch.int32)).tolist()
        inside = slice(*ends)
        return SpikeEvents(
            self.step[inside] - start, self.sample[inside], self.neuron[inside], (stop - start, *rest), self.dtype
        )

    def select(self, neurons: Tensor) -> SpikeEvents:
        """Return the events of some neurons, different ones, which are numbered in their order."""
        check.shape("select", "neurons", neurons, ("neurons",))
        check.dtype("select", "neurons", neurons.dtype, (torch.int64,))
        check.in_range("select", "neurons", neurons, 0, self.shape[-1] - 1)
        number = torch.full(self.shape[-1:], -1, dtype=torch.int32)
        number[neurons] = torch.arange(len(neurons), dtype=torch.int32)
        neuron = number[self.neuron.long()]
        chosen = neuron >= 0
        shape = (*self.shape[:-1], len(neurons))
        return SpikeEvents(self.step[chosen], self.sample[chosen], neuron[chosen], shape, self.dtype)

    def dense(self) -> Tensor:
        """Return the spikes as a tensor ``[T, ..., neurons]``."""
        spikes = torch.zeros(self.shape, dtype=self.dtype)
        place = self.step.long() * spikes.shape[1:].numel() + self._cell()
        spikes.view(-1).index_add_(0, place, torch.ones(len(self), dtype=self.dtype))
        return spikes

    def rates(self) -> Tensor:
        """Return the firing rate of each neuron in spikes a step, float64 ``[..., neurons]``."""
        cells = torch.Size(self.shape[1:])
        count = torch.bincount(self._cell(), minlength=cells.numel()).double()
        return (count / max(self.shape[0], 1)).view(cells)

    def cv(self, least: int = 5) -> Tensor:
        """Return the coefficient of variation of the intervals between spikes of each neuron, float64.

        Args:
            least: number of intervals below which a neuron has NaN.
        """
        least = check.integer("cv", "least", least, 1)
        cells = torch.Size(self.shape[1:])
        cell, order = self._cell().sort(stable=True)
        step = self.step.long()[order]
        same = cell[1:] == cell[:-1]
        where, interval = cell[1:][same], (step[1:] - step[:-1])[same].double()
        count, total = (torch.bincount(where, weights, cells.numel()) for weights in (None, interval))
        mean = total / count
        variance = torch.bincount(where, (interval - mean[where]) ** 2, cells.numel()) / count
        return torch.where(count >= least, variance.sqrt() / mean, torch.nan).view(cells)

    def _cell(self) -> Tensor:
        return self.sample.long() * self.shape[-1] + self.neuron
