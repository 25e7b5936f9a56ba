"""Thresholds of spiking networks from activations, or from the input currents of the running network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from snnfast import check

from .loader import Loader, each_batch, images_and_labels, with_progress
from .network import SpikingNetwork
from .stream import Encoder, Stream


def from_activations(
    network: SpikingNetwork,
    loader: Loader,
    *,
    percentile: float = 100.0,
    per_channel: bool = False,
    batches_used: int | None = None,
    progress: bool | None = None,
    name: str = "convert",
) -> list[Tensor]:
    """Return the largest activation of every layer, or a percentile, over all images of ``loader``.

    Args:
        network: the network; its ReLU activations are used.
        loader: batches of images, or of images and labels.
        percentile: in (0, 100]; below 100 from a histogram, with an error of up to 1/8192 of the largest activation,
            or 1/1024 with ``per_channel``.
        per_channel: one value per channel, dimension 1 of the activations, ``[C, 1, ...]``.
        batches_used: number of batches of ``loader``; None: all.
        progress: show a progress bar; None: only if standard error is a terminal.
        name: prefix of error messages.

    Returns:
        One tensor per layer, in the order in which they run. A layer or channel that is never active gets the largest
        value of the others, or 1.

    Raises:
        ValueError: for an empty loader, images of wrong shape, or a percentile out of range.
    """
    percentile = _checked_percentile(percentile, name)
    layers = {layer: Histogram(percentile, per_channel) for layer in network.plan.neurons}
    for images in itertools.islice(batches(network, loader, name, progress), batches_used):
        for layer, activation in _activations(network, images, name).items():
            layers[layer].add(activation)
    return [histogram.value() for histogram in layers.values()]


def _checked_percentile(percentile: float, name: str) -> float:
    percentile = check.number(name, "percentile", percentile)
    if not 0 < percentile <= 100:
        raise ValueError(f"{name}: percentile must lie in (0, 100], got {percentile:g}")
    return percentile


def _activations(network: SpikingNetwork, images: Tensor, name: str) -> dict[str, Tensor]:
    network.check_images(images)
    try:
        return network.analog(images)[1]
    except (RuntimeError, IndexError) as error:  # raised by a layer of PyTorch
        raise ValueError(f"{name}: the model does not take images of shape {list(images.shape)}: {error}") from error


class Histogram:
    """Percentile of non-negative values that arrive in batches ``[B, C, ...]``, over all or per channel."""

    def __init__(self, p: float, per_channel: bool) -> None:
        """``p`` in (0, 100]; 100 is the exact maximum."""
        self.p, self.per_channel = p, per_channel
        # At least half of the bins are in use, so the error is at most 1/8192 of the largest, per channel 1/1024.
        self.bins = 1 << 11 if per_channel else 1 << 14
        self.shape: tuple[int, ...] = ()
        self.largest: Tensor | None = None
        self.width: Tensor | None = None
        self.counts: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Add a batch of values."""
        values = values.detach()
        if self.per_channel:
            self.shape = (-1, *(1,) * (values.dim() - 2))
        rows = values.movedim(1, 0).flatten(1) if self.per_channel else values.reshape(1, -1)
        top = rows.amax(1)
        self.largest = top if self.largest is None else torch.maximum(self.largest, top)
        if self.p == 100 or not top.isfinite().all():
            return  # the largest stays infinite or NaN, which is refused as a threshold
        if self.counts is None or self.width is None:
            self.width = torch.where(top > 0, top, torch.ones_like(top)).double() / self.bins
            self.counts = torch.zeros(len(rows), self.bins, dtype=torch.int64, device=rows.device)
        while bool((beyond := self.largest.double() > self.width * self.bins).any()):
            # Double the range: merge pairs of neighbouring bins.
            merged = self.counts.view(len(rows), -1, 2).sum(2)
            merged = torch.cat([merged, torch.zeros_like(merged)], 1)
            self.counts = torch.where(beyond.unsqueeze(1), merged, self.counts)
            self.width = torch.where(beyond, 2 * self.width, self.width)
        bins = (rows.double() / self.width.unsqueeze(1)).long().clamp_(max=self.bins - 1)
        bins += torch.arange(len(rows), device=bins.device).unsqueeze(1) * self.bins
        self.counts += torch.bincount(bins.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def any(self) -> bool:
        """Return whether a value is above 0, or NaN."""
        return self.largest is not None and not bool((self.largest <= 0).all())

    def value(self) -> Tensor:
        """Return the upper edge of the bin that holds the percentile, at most the largest value."""
        if self.largest is None:
            raise RuntimeError("Histogram: there are no numbers yet")
        value = self.largest
        if self.counts is not None and self.width is not None:
            wanted = self.counts.sum(1, keepdim=True) * (self.p / 100)
            index = (self.counts.cumsum(1) < wanted).sum(1)
            edge = ((index + 1) * self.width).to(value.dtype)
            # If nearly all values are 0, so is the percentile, which is no threshold: use the largest.
            counted = (index > 0) & value.isfinite()
            value = torch.where(counted, torch.minimum(edge, value), value)
        silent = value <= 0
        others = value.amax() if bool((value > 0).any()) else value.new_tensor(1.0)
        return torch.where(silent, others, value).view(self.shape)


def from_currents(
    network: SpikingNetwork,
    loader: Loader,
    *,
    num_steps: int,
    scaling_factor: float = 1.0,
    percentile: float = 100.0,
    per_channel: bool = False,
    batches_used: int = 1,
    encoding: Encoder | None = None,
    progress: bool | None = None,
    name: str = "spikenorm",
) -> list[Tensor]:
    """Set thresholds by Spike-Norm: the largest input current of every layer, with all earlier thresholds set.

    For the layers in order: all steps run from the stored spikes of earlier layers, one byte each; the largest current
    (or a percentile) times ``scaling_factor`` becomes the threshold; the layer fires, and its spikes are stored for the
    next one. Every product runs twice per step, so the cost is proportional to the depth. Membranes start at rest for
    every layer and batch.

    Args:
        network: the network whose thresholds are set.
        loader: batches of images, or of images and labels.
        num_steps: number of steps per batch, at least 1.
        scaling_factor: thresholds are this fraction of the largest current, above 0.
        percentile: percentile of the currents of all neurons and steps, with negative currents counted as 0; in
            (0, 100], as in :func:`from_activations`.
        per_channel: one threshold per channel, dimension 1 of the currents, ``[C, 1, ...]``.
        batches_used: number of batches of ``loader``, at least 1; the spikes of all are stored at the same time.
        encoding: from images to the input of one step; None for the network's own.
        progress: show a progress bar over layers; None: only if standard error is a terminal.
        name: prefix of error messages.

    Returns:
        The thresholds, in the order in which they run.

    Raises:
        TypeError, ValueError: for an empty loader and arguments of wrong type or range; the network is then unchanged.
    """
    T = check.integer(name, "num_steps", num_steps)
    factor = check.positive(name, "scaling_factor", scaling_factor)
    percentile = _checked_percentile(percentile, name)
    check.integer(name, "batches_used", batches_used)
    before, shape = network.thresholds, network.input_shape
    plan = network.plan
    try:
        used = list(itertools.islice(batches(network, loader, name, False), batches_used))
        for images in used:
            _activations(network, images, name)  # raises an error for a wrong shape
        for layer in plan.neurons:
            # A run needs every threshold; layers without one are not reached.
            network.neurons(layer).threshold = network.neurons(layer).checked(1.0, layer)
        runs = [Layers(network, network.check_images(images), T, encoding) for images in used]
        found = []
        for layer in with_progress(plan.neurons, name, "layer", progress):
            place, currents = plan.nodes[layer].place, Histogram(percentile, per_channel)
            for run in runs:
                for x in run.currents(layer):
                    currents.add(x.clamp(min=0))
            if not currents.any():
                raise ValueError(
                    f"{name}: no current into {place} is above 0 within {T} steps; give more steps or images"
                )
            neurons = network.neurons(layer)
            neurons.threshold = neurons.checked(factor * currents.value().double(), f"{name}: threshold of {place}")
            found.append(neurons.threshold)
            for run in runs:
                run.fire(layer)
    except BaseException:
        for layer, threshold in zip(plan.neurons, before):
            network.neurons(layer).threshold = threshold
        network.input_shape = shape
        raise
    return found


class Layers(Stream):
    """Run of one batch layer by layer: all steps of a layer, from the stored spikes of earlier layers."""

    def __init__(
        self, network: SpikingNetwork, images: Tensor, num_steps: int, encoding: Encoder | None = None
    ) -> None:
        plan = network.plan
        neurons = {name: network.neurons(name) for name in plan.neurons}
        super().__init__(plan, network, neurons, images, encoding=encoding or network.encoding)
        self._spike_trains: dict[str, Tensor] = {}
        self._T = num_steps
        if not plan.constant_input:
            self._spike_trains[plan.input] = _narrow(self._encode(num_steps))
        self._sources = {layer: self._sources_of(layer) for layer in self.plan.neurons}

    @torch.no_grad()
    def fire(self, layer: str) -> None:
        """Run the neurons of ``layer``; store their spikes while a later layer reads them."""
        later = self.plan.neurons[self.plan.neurons.index(layer) + 1 :]
        needed = {source for other in later for source in self._sources[other]}
        for name in self._spike_trains.keys() - needed - self._sources[layer]:
            del self._spike_trains[name]
        if layer in needed:
            self._v.clear()
            rows = [self._spikes(layer, x) for x in self.currents(layer)]
            self._spike_trains[layer] = torch.stack(rows)
        for name, source in self.plan.absorbing.items():
            if source == layer:
                self._calls[name] = self._call(self.plan.nodes[name])

    def _spikes(self, layer: str, x: Tensor) -> Tensor:
        spikes: Tensor = self._fire(layer, x.unsqueeze(0))  # type: ignore[assignment]
        return (spikes[0] != 0).to(torch.int8)

    @torch.no_grad()
    def currents(self, layer: str) -> Iterator[Tensor]:
        """Yield the input current of ``layer``, step by step."""
        self._pools.clear()
        source = self.plan.nodes[layer].source
        for t in range(self._T):
            values: dict[str, Any] = dict(self.constant)

            def look(name: str, values: dict[str, Any] = values, t: int = t) -> Any:
                if name not in values:
                    values[name] = self._value(name, t, look)
                return values[name]

            yield look(source)

    def _value(self, name: str, t: int, look: Callable[[str], Any]) -> Any:
        if name in self._spike_trains:
            spikes = self._spike_trains[name][t].to(self._images.dtype)
            if name in self.neurons and not self.plan.unit_spikes and not self._absorbs(name):
                spikes *= self.neurons[name].threshold
            return spikes
        if self.plan.nodes[name].kind == "max_pool":
            x: Tensor = look(self.plan.nodes[name].source)
            return self._pool(name, x.unsqueeze(0))[0]
        return self._calls[name](look)

    def _sources_of(self, layer: str) -> set[str]:
        """Return the names of the spike trains from which the input current of ``layer`` is computed."""
        found: set[str] = set()
        seen, todo = {layer}, self.plan.nodes[layer].reads
        while todo:
            name = todo.pop()
            if name in seen or name in self.constant:
                continue
            seen.add(name)
            if self.plan.nodes[name].kind in ("spiking", "input"):
                found.add(name)
            else:
                todo += self.plan.nodes[name].reads
        return found


def batches(network: SpikingNetwork, loader: Loader, name: str, progress: bool | None) -> Iterator[Tensor]:
    """Yield the images of ``loader``; the first batch sets the network's input shape."""
    empty = True
    for batch in each_batch(loader, name, progress=progress):
        images, _ = images_and_labels(batch)
        if network.input_shape is None and isinstance(images, Tensor) and images.dim() > 1:
            network.input_shape = tuple(images.shape[1:])
        if isinstance(images, Tensor) and images.dim() and len(images) == 0:
            continue
        empty = False
        yield images
    if empty:
        raise ValueError(f"{name}: the loader holds no images")


def _narrow(spikes: Tensor) -> Tensor:
    """Return spikes as int8 if that is exact."""
    narrow = spikes.to(torch.int8)
    return narrow if torch.equal(narrow.to(spikes.dtype), spikes) else spikes
