"""Runs of BP-STDP that differ in nothing but their seeds, as the networks of one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snnfast.ops import Rates
from snnfast.procedure import samples
from snnfast.procedure.run import Data
from snnfast.train import EVALUATED, Part, progress_bar

if TYPE_CHECKING:
    from snnfast.procedure.tavanaei_maida2017 import BpStdpSettings, Drawn, Spiking


def train(
    settings: BpStdpSettings, model: Spiking, data: Data, size: int
) -> tuple[Tensor, list[Tensor]]:
    """Trains ``model``, whose networks draw all that a run alone draws, and in its order, ``size`` samples a call.

    Returns:
        The accuracy of each run on what is held out ``[K]``, in [0, 1], bit for bit as of the run alone; and of XOR
        those behind every epoch.
    """
    draws, (x, labels) = model.network.draws, data.train
    n, epochs = len(x), []
    with progress_bar(f"train {model.network.networks} networks", settings.epochs * n) as bar:
        for epoch in range(settings.epochs):
            order = torch.stack(draws.each(lambda _: torch.randperm(n)))
            for of_networks in order.split(size, 1):
                chosen = of_networks.to(x.device)

                def drawn(k: int, chosen: Tensor = chosen) -> Drawn:
                    images = x[chosen[k]]
                    if settings.shift:
                        images = samples.moved(images, settings.shift)
                    return model.drawn(settings, images, labels[chosen[k]])

                model.learn(settings, epoch, *_together(draws.each(drawn)))
                bar.update(chosen.shape[1])
            if settings.dataset == "xor":
                epochs.append(scored(settings, model, data.held_out, size))
    return scored(settings, model, data.held_out, EVALUATED), epochs


def scored(settings: BpStdpSettings, model: Spiking, part: Part, size: int) -> Tensor:
    """The accuracy of each network ``[K]``, by what :func:`snnfast.train.evaluate` would draw for it alone."""
    draws, right = model.network.draws, 0
    with draws.put_back():
        for x, labels in zip(*(values.split(size) for values in part)):

            def drawn(_: int, x: Tensor = x, labels: Tensor = labels) -> Drawn:
                return model.drawn(settings, x, labels)

            spikes, _, _ = _together(draws.each(drawn))
            right = right + (model.answer(spikes).sum(1).argmax(-1) == labels).sum(1)
    return torch.as_tensor(right).double() / max(len(part[1]), 1)


def _together(drawn: Sequence[Drawn]) -> Drawn:
    """What was drawn for each network with the dimension of the networks before all others."""
    spikes, labels, desired = zip(*drawn)
    first = spikes[0]
    if isinstance(first, Rates):
        hz, seeds = (torch.stack([getattr(s, name) for s in spikes]) for name in ("hz", "seeds"))
        return first._replace(hz=hz, seeds=seeds), torch.stack(labels), torch.stack(desired)
    return torch.stack(spikes), torch.stack(labels), torch.stack(desired)
