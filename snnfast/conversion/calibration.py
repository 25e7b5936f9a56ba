"""Thresholds of spiking networks: from activations, and from the currents of the spiking network itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from snnfast import check

from .loader import Loader, each_batch, images_and_labels
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
    """The largest activation of every layer, or a percentile of its activations, over all images of ``loader``.

    Args:
        network: whose analog activations are taken.
        loader: batches of images, or of images and labels.
        percentile: in (0, 100]; below 100 from a histogram, to 1/8192 of the largest, or 1/1024 a channel.
        per_channel: one value a channel, dimension 1 of the activations, ``[C, 1, ...]``.
        batches_used: batches of ``loader``; None: all.
        progress: show a progress bar; None: only if standard error is a terminal.
        name: what errors begin with.

    Returns:
        One tensor a layer, in the order in which they run. A layer or channel that is never active gets the value of
        the others, or 1.

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
    except (RuntimeError, IndexError) as error:  # of a layer of PyTorch
        raise ValueError(f"{name}: the model does not take images of shape {list(images.shape)}: {error}") from error


class Histogram:
    """A percentile of numbers from 0 on that come in parts ``[B, C, ...]``; of each channel, or of all."""

    def __init__(self, p: float, per_channel: bool) -> None:
        """``p`` in (0, 100]; 100 is the largest, which is exact."""
        self.p, self.per_channel = p, per_channel
        # One in 8192 or, with a row a channel, in 1024 of the largest is the error, at the most.
        self.bins = 1 << 11 if per_channel else 1 << 14
        self.shape: tuple[int, ...] = ()
        self.largest: Tensor | None = None
        self.width: Tensor | None = None
        self.counts: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Takes more numbers."""
        values = values.detach()
        if self.per_channel:
            self.shape = (-1, *(1,) * (values.dim() - 2))
        rows = values.movedim(1, 0).flatten(1) if self.per_channel else values.reshape(1, -1)
        top = rows.amax(1)
        self.largest = top if self.largest is None else torch.maximum(self.largest, top)
        if self.p == 100 or not top.isfinite().all():
            return  # infinite and NaN are the largest then, which no threshold can be
        if self.counts is None or self.width is None:
            self.width = torch.where(top > 0, top, torch.ones_like(top)).double() / self.bins
            self.counts = torch.zeros(len(rows), self.bins, dtype=torch.int64, device=rows.device)
        while bool((beyond := self.largest.double() > self.width * self.bins).any()):
            # Twice the range: two neighbouring bins become one.
            merged = self.counts.view(len(rows), -1, 2).sum(2)
            merged = torch.cat([merged, torch.zeros_like(merged)], 1)
            self.counts = torch.where(beyond.unsqueeze(1), merged, self.counts)
            self.width = torch.where(beyond, 2 * self.width, self.width)
        bins = (rows.double() / self.width.unsqueeze(1)).long().clamp_(max=self.bins - 1)
        bins += torch.arange(len(rows), device=bins.device).unsqueeze(1) * self.bins
        self.counts += torch.bincount(bins.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def any(self) -> bool:
        """Whether a number is above 0, or NaN."""
        return self.largest is not None and not bool((self.largest <= 0).all())

    def value(self) -> Tensor:
        """The upper edge of the bin that holds the percentile, at most the largest."""
        if self.largest is None:
            raise RuntimeError("Histogram: there are no numbers yet")
        value = self.largest
        if self.counts is not None and self.width is not None:
            wanted = self.counts.sum(1, keepdim=True) * (self.p / 100)
            index = (self.counts.cumsum(1) < wanted).sum(1)
            edge = ((index + 1) * self.width).to(value.dtype)
            # Where nearly all is silent, the percentile is 0 and tells nothing.
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
    """Spike-Norm: the largest current into every layer, one layer after the other, earlier thresholds set.

    For the layers in order: all steps run from the spikes of the layers before, which are kept, as one byte each; the
    largest current (or a percentile) times ``scaling_factor`` becomes the threshold; the layer fires, and its spikes
    are kept for the next. Every product runs twice a step, so the cost grows in proportion to the depth. Membranes
    start anew for every layer and batch.

    Args:
        network: gets the thresholds.
        loader: batches of images, or of images and labels.
        num_steps: steps of a batch, at least 1.
        scaling_factor: thresholds are this part of the largest current, above 0.
        percentile: of the currents of all neurons and steps, those below 0 counted as 0; in (0, 100], as in
            :func:`from_activations`.
        per_channel: one threshold a channel, dimension 1 of the currents, ``[C, 1, ...]``.
        batches_used: batches of ``loader``, at least 1; the spikes of all are kept at once.
        encoding: from images to the input of one step; None for the network's own.
        progress: show a progress bar over layers; None: only if standard error is a terminal.
        name: what errors begin with.

    Returns:
        The thresholds, in the order in which they run.

    Raises:
        TypeError, ValueError: for an empty loader and arguments of wrong type or range; the network is then as it was.
    """
    T = check.whole(name, "num_steps", num_steps)
    factor = check.positive(name, "scaling_factor", scaling_factor)
    percentile = _checked_percentile(percentile, name)
    check.whole(name, "batches_used", batches_used)
    before, shape = network.thresholds, network.input_shape
    plan = network.plan
    disable = None if progress is None else not progress
    try:
        used = list(itertools.islice(batches(network, loader, name, False), batches_used))
        for images in used:
            _activations(network, images, name)  # says what is wrong with their shape
        for layer in plan.neurons:
            # A run needs every threshold; a layer that has none yet is not reached.
            network.neurons(layer).threshold = network.neurons(layer).checked(1.0, layer)
        runs = [Layers(network, network.check_images(images), T, encoding) for images in used]
        found = []
        for layer in tqdm(plan.neurons, desc=name, unit="layer", disable=disable, leave=False):
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
    """A run of one batch layer by layer: all steps of a layer, from the kept spikes of those before."""

    def __init__(
        self, network: SpikingNetwork, images: Tensor, num_steps: int, encoding: Encoder | None = None
    ) -> None:
        plan = network.plan
        neurons = {name: network.neurons(name) for name in plan.neurons}
        super().__init__(plan, network, neurons, images, encoding=encoding or network.encoding)
        self._kept: dict[str, Tensor] = {}
        self._T = num_steps
        if not plan.constant_input:
            self._kept[plan.input] = _narrow(self._encode(num_steps))
        self._sources = {layer: self._sources_of(layer) for layer in self.plan.neurons}

    @torch.no_grad()
    def fire(self, layer: str) -> None:
        """Runs the neurons of ``layer`` and keeps their spikes for as long as a later layer reads them."""
        later = self.plan.neurons[self.plan.neurons.index(layer) + 1 :]
        needed = {source for other in later for source in self._sources[other]}
        for name in self._kept.keys() - needed - self._sources[layer]:
            del self._kept[name]
        if layer in needed:
            self._v.clear()
            rows = [self._spikes(layer, x) for x in self.currents(layer)]
            self._kept[layer] = torch.stack(rows)
        for name, source in self.plan.absorbing.items():
            if source == layer:
                self._calls[name] = self._call(self.plan.nodes[name])

    def _spikes(self, layer: str, x: Tensor) -> Tensor:
        spikes: Tensor = self._fire(layer, x.unsqueeze(0))  # type: ignore[assignment]
        return (spikes[0] != 0).to(torch.int8)

    @torch.no_grad()
    def currents(self, layer: str) -> Iterator[Tensor]:
        """The current into ``layer``, step by step."""
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
        if name in self._kept:
            spikes = self._kept[name][t].to(self._images.dtype)
            if name in self.neurons and not self.plan.unit_spikes and not self._absorbs(name):
                spikes *= self.neurons[name].threshold
            return spikes
        if self.plan.nodes[name].kind == "max_pool":
            x: Tensor = look(self.plan.nodes[name].source)
            return self._pool(name, x.unsqueeze(0))[0]
        return self._calls[name](look)

    def _sources_of(self, layer: str) -> set[str]:
        """The kept spikes from which the current into ``layer`` is worked out."""
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
    """The images of ``loader``; sets the network's input shape by the first of them."""
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
    """Spikes of one byte each where all are -1, 0 or 1."""
    narrow = spikes.to(torch.int8)
    return narrow if torch.equal(narrow.to(spikes.dtype), spikes) else spikes
