"""Counters of a monitor: tensors that stay on the network's device, since reading one waits for the GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from .activity import NeuronActivity, ProductActivity

__all__ = ["NeuronCounts", "ProductCounts"]


class Counts:
    """Tensors that are summed over calls and over processes."""

    names: tuple[str, ...]

    def to_cpu(self) -> None:
        """Move the tensors to the CPU."""
        for name in self.names:
            setattr(self, name, getattr(self, name).cpu())

    def join(self, other: Counts) -> None:
        """Add the counts of another process."""
        for name in self.names:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class NeuronCounts(Counts):
    """Sums of a layer of neurons.

    Attributes:
        kind: class of the layer.
        steps: whether its neurons fire in steps; else they have spike times.
        count: spike count of each neuron ``[N]``.
        always: number of calls in which each neuron fired at every step of some sample ``[N]``.
        slots: number of steps over all samples; without steps the number of samples.
    """

    names = ("count", "always", "slots")

    def __init__(self, kind: str, steps: bool) -> None:
        self.kind, self.steps = kind, steps
        self.count = self.always = self.slots = torch.zeros((), dtype=torch.int64)

    def add(self, place: str, count: Tensor, always: Tensor, slots: int) -> None:
        """Add spike counts ``[N]``, whether each neuron fired at every step of some sample ``[N]``, and slots.

        Raises:
            ValueError: if the number of neurons differs from earlier calls.
        """
        if self.count.dim() and self.count.shape != count.shape:
            raise ValueError(
                f"monitor: {place} had {len(self.count)} neurons, now {len(count)}; call clear() in between"
            )
        self.slots = self.slots.to(count.device) + slots
        self.count = self.count.to(count.device) + count
        self.always = self.always.to(count.device) + always.long()

    def report(self, place: str, samples: int) -> NeuronActivity:
        """Return the activity of the layer at ``place``, for this number of samples."""
        rate = saturated = float("nan")
        if self.steps:
            rate = float(self.count.double().mean()) / max(int(self.slots), 1)
            saturated = float((self.always > 0).double().mean())
        return NeuronActivity(
            place,
            self.kind,
            self.count.numel(),
            float(self.count.sum()) / samples,
            rate,
            float((self.count == 0).double().mean()),
            saturated,
        )


class ProductCounts(Counts):
    """Sums of a product."""

    names = ("counts",)

    def __init__(self, kind: str) -> None:
        self.kind = kind
        # accumulates, multiply-accumulates, dense
        self.counts = torch.zeros(3, dtype=torch.float64)

    def add(self, operations: Tensor, dense: Tensor, spikes: Tensor) -> None:
        """Add operations of a call, effective and dense, and whether its inputs were spikes, all scalar tensors."""
        spikes = spikes.to(operations.device)
        none = torch.zeros_like(operations)
        counts = torch.stack(
            [torch.where(spikes, operations, none), torch.where(spikes, none, operations), dense.to(operations)]
        )
        self.counts = self.counts.to(counts.device) + counts

    def report(self, place: str, samples: int, energy_ac: float, energy_mac: float) -> ProductActivity:
        """Return the operations per sample of the product at ``place``; energies are in joules per operation."""
        ac, mac, dense = (self.counts / samples).tolist()
        return ProductActivity(place, self.kind, ac, mac, dense, ac * energy_ac + mac * energy_mac)
