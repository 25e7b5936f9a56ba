"""Training of several runs of STDP as the networks of one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from snnfast.learning.labels import assign_labels, predict
from snnfast_zoo.train import progress_bar
from snnfast_zoo.train.runs.images import classes
from snnfast_zoo.train.runs.run import Data

from . import readout
from .model import DiehlAndCook2015
from .options import StdpSettings


def draw(seed: int, images: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Draw the order of the images in an epoch and the seeds of their spikes, so that a run resumes bit for bit."""
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    order = torch.randperm(images, generator=generator)
    return order, torch.randint(2**63 - 1, (images,), generator=generator)


def train(every: Sequence[StdpSettings], data: Data, *, progress: bool | None = None) -> list[float]:
    """Return the held-out accuracy of each run, in [0, 1], bit for bit that of the run trained alone."""
    settings, seeds = every[0], [run.seed for run in every]
    pixels, labels = data.train
    n, size = len(pixels), cast(int, settings.images_per_call)
    model = DiehlAndCook2015(
        settings.neurons, pixels.shape[1:], [run.network(n) for run in every], networks=len(every), seeds=seeds
    ).to(data.device)
    title = f"train {len(every)} networks"
    with progress_bar(title, settings.epochs * n, progress=progress) as bar:
        for epoch in range(settings.epochs):
            order, spike_seeds = map(torch.stack, zip(*(draw(seed, n, epoch) for seed in seeds)))
            for first in range(0, n, size):
                model.set_progress((epoch * n + first) / (settings.epochs * n))
                chosen = order[:, first : first + size].to(data.device)
                rates = pixels[chosen] * model.settings.intensity
                model.present(rates, seeds=spike_seeds[:, first : first + size])
                bar.update(chosen.shape[1])
    images = readout.assignment_images(settings)
    counts = [
        readout.responses(model, part, seeds, purpose, progress)
        for purpose, part in (("assign", pixels[-images:]), ("infer", data.held_out[0]))
    ]
    accuracies, known = [], classes(settings.dataset, data)
    for training, held_out in zip(*counts):
        assigned = assign_labels(training, labels[-images:], known)
        right = predict(held_out, assigned) == data.held_out[1]
        accuracies.append(float(right.double().mean()))
    return accuracies
