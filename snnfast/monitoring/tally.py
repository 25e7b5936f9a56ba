"""Counts of a network's activity, and the results computed from them: :class:`Tally`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from typing_extensions import Self

from .activity import Activity
from .counts import NeuronCounts, ProductCounts
from .operations import are_spikes, fan_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Tally"]

MOST_DRAWN = 256  # neurons of a layer in a raster, evenly spaced


class Tally:
    """Counts of a network's layers by name; see :class:`snnfast.monitoring.Monitor`.

    Args:
        net: the network, whose weights :meth:`figures` draws.
        membranes: number of neurons per layer whose membranes are stored.
        energy: energies of an accumulate and of a multiply-accumulate, in joules.
    """

    def __init__(self, net: nn.Module, membranes: int, energy: tuple[float, float]) -> None:
        self._net, self._membranes, self._energy = net, membranes, energy
        self.clear()

    def clear(self) -> None:
        """Reset all counts."""
        self._neurons: dict[str, NeuronCounts] = {}
        self._products: dict[str, ProductCounts] = {}
        self._batch: int | None = None  # batch size of the current call
        self.spikes: dict[str, Tensor] = {}
        self.membranes: dict[str, Tensor] = {}
        self.samples = 0

    # Counting.

    def _read_batch_size(self, x: Tensor) -> None:
        """Read the batch size of the call from a sequence ``[T, B, ...]``."""
        if x.dim() > 1:
            self._batch = x.shape[1]

    def _keep_membranes(self, name: str, v_seq: Tensor | None) -> None:
        if v_seq is not None and self._membranes and v_seq.dim() > 1 and v_seq.shape[1]:
            flat = v_seq[:, 0].flatten(1) if v_seq.dim() > 2 else v_seq
            self.membranes[name] = flat[:, : self._membranes].detach().clone()

    def add_spikes(self, place: str, kind: str, spikes: Tensor, *, several: bool = False) -> None:
        """Count spikes ``[T, B, ...]`` of a layer that hooks cannot observe.

        Args:
            place: name of the layer.
            kind: class of the layer.
            spikes: anything but 0 is a spike.
            several: values are numbers of spikes.
        """
        self._read_batch_size(spikes)
        samples = spikes.flatten(2) if spikes.dim() > 2 else spikes.unsqueeze(-1)
        fired = samples != 0
        count = (samples.long() if several else fired).sum((0, 1))
        part = self._neurons.setdefault(place, NeuronCounts(kind, steps=True))
        part.add(place, count, fired.all(0).any(0), fired.shape[0] * fired.shape[1])
        if fired.shape[1]:
            self.spikes[place] = fired[:, 0].detach()

    def add_counts(self, place: str, kind: str, count: Tensor, num_steps: int, first: Tensor) -> None:
        """Add spike counts ``[B, ...]`` of ``num_steps`` steps, and spikes of the first sample ``[T, ...]``."""
        per_sample = count.flatten(1).long()
        part = self._neurons.setdefault(place, NeuronCounts(kind, steps=True))
        part.add(place, per_sample.sum(0), (per_sample == num_steps).any(0), len(per_sample) * num_steps)
        self.spikes[place] = first.flatten(1)

    def add_linear(self, place: str, kind: str, x: Tensor, weight: Tensor) -> None:
        """Count operations of ``x`` ``[..., I]`` times ``weight`` ``[O, I]``, a product that hooks cannot observe."""
        active = (x != 0).flatten(0, -2).sum(0, dtype=torch.float64)
        dense = active.new_tensor(float(x.numel() * len(weight)))
        self._add(place, kind, active * (weight != 0).sum(0), dense, are_spikes(x))

    def _add(self, place: str, kind: str, operations: Tensor, dense: Tensor, spikes: Tensor) -> None:
        part = self._products.setdefault(place, ProductCounts(kind))
        part.add(operations.sum(), dense, spikes)

    def add_inputs(self, place: str, product: nn.Module, active: Tensor, presented: int, spikes: Tensor) -> None:
        """Count the operations of a product.

        Args:
            place: name of the product.
            product: the Linear or convolution.
            active: how often each input of a sample was not 0, float64, in the shape of a sample.
            presented: number of presentations of a sample.
            spikes: whether all inputs were -1, 0 or 1, a tensor.
        """
        dense = fan_out(product, active.shape, dense=True).sum() * presented
        operations = active * fan_out(product, active.shape)
        self._add(place, type(product).__name__, operations, dense, spikes)

    # Results.

    def reduce(self) -> Self:
        """Add the counts of all processes of ``torch.distributed``; every process must call it."""
        for part in (*self._neurons.values(), *self._products.values()):
            part.to_cpu()
        every: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(every, (self._neurons, self._products, self.samples))
        self._neurons, self._products, self.samples = every[0]
        for neurons, products, samples in every[1:]:
            # A process without samples has no layers.
            for known, others in ((self._neurons, neurons), (self._products, products)):
                for place, part in others.items():
                    if known.setdefault(place, part) is not part:
                        known[place].join(part)
            self.samples += samples
        return self

    def activity(self) -> Activity:
        """Return the counts so far, as numbers per sample.

        Raises:
            ValueError: if nothing has run.
        """
        if not self.samples:
            raise ValueError(
                "monitor: the network has not run since the monitor is on; only calls of the network itself count, "
                "not those of its other methods, such as present"
            )
        return Activity(
            tuple(part.report(name, self.samples) for name, part in self._neurons.items()),
            tuple(part.report(name, self.samples, *self._energy) for name, part in self._products.items()),
            self.samples,
            *self._energy,
        )

    def rates(self) -> dict[str, Tensor]:
        """Return spikes per step of every neuron, ``[neurons]``, by layer; for spike times, spikes per sample."""
        return {name: part.count.double() / part.slots for name, part in self._neurons.items()}

    def write(self, writer: Any, step: int | None = None) -> None:
        """Add every number of :meth:`Activity.scalars` to a ``torch.utils.tensorboard.SummaryWriter``."""
        for name, value in self.activity().scalars().items():
            writer.add_scalar(name, value, step)

    def figures(self) -> dict[str, Figure]:
        """Draw ``rates`` and ``weights`` as histograms, ``raster``, and ``membranes`` if they are stored."""
        from snnfast import visual

        drawn: dict[str, Figure] = {}
        modules = {path or type(m).__name__: m for path, m in self._net.named_modules()}
        kinds = {name: type(m).__name__ for name, m in modules.items()}
        titles = {name: name if name == kind else f"{name}: {kind}" for name, kind in kinds.items()}
        # Recurrent neurons stand in a layer of their own. A threshold for each neuron is a tensor, and not drawn.
        neurons = {titles[name]: m._modules.get("neuron") or m for name, m in modules.items()}
        levels = {name: vars(m).get("v_threshold") for name, m in neurons.items()}
        thresholds = {name: level for name, level in levels.items() if isinstance(level, float)}

        def titled(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {titles.get(name, name): value for name, value in values.items()}

        if self._neurons:
            drawn["rates"] = visual.histograms(titled(self.rates()), xlabel="Spikes a step")
        if self.spikes:
            few = {name: s[:, :: -(-s.shape[1] // MOST_DRAWN)] for name, s in self.spikes.items()}
            drawn["raster"] = visual.rasters(titled(few))
        if self.membranes:
            drawn["membranes"] = visual.traces(titled(self.membranes), thresholds)
        found = {name: getattr(modules.get(name), "weight", None) for name in self._products}
        weights = {name: w for name, w in found.items() if isinstance(w, Tensor)}
        if weights:
            drawn["weights"] = visual.histograms(titled(weights), xlabel="Weight")
        return drawn
