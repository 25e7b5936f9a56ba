"""Runs of BP-STDP that differ in seeds, folds and some settings, as the networks of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snnfast.ops import Rates
from snnfast.procedure import samples
from snnfast.procedure.run import Data
from snnfast.score import EVALUATED, Part
from snnfast.train import progress_bar

if TYPE_CHECKING:
    from snnfast.procedure.tavanaei_maida2017 import BpStdpSettings, Drawn, Spiking


def train(
    every: Sequence[BpStdpSettings],
    model: Spiking,
    data: Sequence[Data],
    size: int,
    *,
    progress: bool | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Trains ``model``, whose networks draw all that a run alone draws, and in its order, ``size`` samples a call.

    Args:
        every: the settings of each run.
        model: a network for each.
        data: of each, as many samples as of all others.
        size: samples a call.
        progress: progress bar; see :func:`snnfast.train.fit`.

    Returns:
        The accuracy of each run on what is held out ``[K]``, in [0, 1], bit for bit as of the run alone; and of XOR
        those behind every epoch.
    """
    draws, settings, held_out = model.network.draws, every[0], [one.held_out for one in data]
    n, epochs = len(data[0].train[0]), []
    title = f"train {len(every)} networks"
    with progress_bar(title, settings.epochs * n, progress=progress) as bar:
        for epoch in range(settings.epochs):
            order = torch.stack(draws.each(lambda _: torch.randperm(n)))
            for of_networks in order.split(size, 1):
                chosen = of_networks.to(model.network.weights[0].device)

                def drawn(k: int, chosen: Tensor = chosen) -> Drawn:
                    images, labels = (values[chosen[k]] for values in data[k].train)
                    if every[k].shift:
                        images = samples.moved(images, every[k].shift)
                    return model.drawn(every[k], images, labels)

                model.learn(every, epoch, *_stacked(draws.each(drawn)))
                bar.update(chosen.shape[1])
            if settings.dataset == "xor":
                epochs.append(scored(every, model, held_out, size))
    return scored(every, model, held_out, EVALUATED), epochs


def scored(
    every: Sequence[BpStdpSettings], model: Spiking, parts: Sequence[Part], size: int
) -> Tensor:
    """The accuracy of each network ``[K]``, by what :func:`snnfast.train.evaluate` would draw for it alone."""
    draws, count = model.network.draws, len(parts[0][1])
    right: int | Tensor = 0
    with draws.put_back():
        for first in range(0, count, size):

            def drawn(k: int, first: int = first) -> Drawn:
                x, labels = (values[first : first + size] for values in parts[k])
                return model.drawn(every[k], x, labels)

            spikes, labels, _ = _stacked(draws.each(drawn))
            right = right + (model.answer(spikes).sum(1).argmax(-1) == labels).sum(1)
    return torch.as_tensor(right).double() / max(count, 1)


def alike(settings: BpStdpSettings) -> BpStdpSettings:
    """The settings without what may differ between networks of one model, besides the data."""
    return replace(settings, seed=0, lr=1.0, cosine=True, beta=0.0, shift=0, std=(1.0,))


def uncut(settings: BpStdpSettings) -> BpStdpSettings:
    """The settings without those of the split of the data."""
    return replace(settings, fold=0, split_seed=0)


def _stacked(drawn: Sequence[Drawn]) -> Drawn:
    """Stack the inputs drawn for each network along a first dimension of networks."""
    spikes, labels, desired = zip(*drawn)
    first = spikes[0]
    if isinstance(first, Rates):
        hz, seeds = (torch.stack([getattr(s, name) for s in spikes]) for name in ("hz", "seeds"))
        return first._replace(hz=hz, seeds=seeds), torch.stack(labels), torch.stack(desired)
    return torch.stack(spikes), torch.stack(labels), torch.stack(desired)
