"""Class labels of neurons trained by STDP, and their accuracy on images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from snnfast.learning.labels import UNASSIGNED, VOTES, Assignment, assign_labels, predict
from snnfast_zoo.train import Run
from snnfast_zoo.train.checkpoint import CheckpointError, read_checkpoint, same_settings, write_checkpoint
from snnfast_zoo.train.images import classes
from snnfast_zoo.train.place import Data
from snnfast_zoo.train.progress import progress_bar
from snnfast_zoo.train.result import Result

from .model import DiehlAndCook2015
from .options import StdpSettings

LABELS, CONFUSION, KIND = "labels.pt", "confusion.png", "labels of stdp"
ASSIGNMENT_IMAGES, ASSIGNMENT_IMAGES_A_NEURON = 10_000, 10
IMAGES_PER_CALL = 1000
# Numbered generators of a run: epochs count from 0 up, presentations without learning from the end down.
STREAMS = {"assign": 1, "infer": 2}


class Labels(NamedTuple):
    """The classes of the neurons, and the number of images that determined them."""

    assigned: Assignment
    images: int

    def summary(self) -> str:
        """Return a line with the number of neurons of every class."""
        labels, known = self.assigned.labels, self.assigned.labels != UNASSIGNED
        sizes = torch.bincount(labels[known].cpu(), minlength=self.assigned.rates.shape[1]).tolist()
        counts = ", ".join(f"{c}: {n}" for c, n in enumerate(sizes))
        return f"neurons of each class: {counts}; without a class: {int((~known).sum())}"


def assign(
    settings: StdpSettings,
    run: Run,
    data: Data,
    out: Path | None = None,
    *,
    images: int | None = None,
    progress: bool | None = None,
) -> Labels:
    """Label every neuron by its responses to the last ``images`` training images, without learning.

    By default these are ten per neuron and at least 10,000, or all. The labels are written to ``labels.pt`` in
    ``out``, where :func:`stored` reads them.
    """
    if images is None:
        images = assignment_images(settings)
    if images < 1:
        raise ValueError(f"stdp: images must be at least 1, got {images}")
    pixels, labels = (part[-images:] for part in data.train)
    model = cast(DiehlAndCook2015, run.model)
    counts = responses(model, pixels, settings.seed, "assign", progress)
    assigned = assign_labels(counts, labels, classes(settings.dataset, data))
    if out is not None:
        content = {
            "kind": KIND,
            "settings": settings.plain(),
            "epoch": run.epoch,
            "images": len(pixels),
            "labels": assigned.labels.cpu(),
            "rates": assigned.rates.cpu(),
        }
        write_checkpoint(out / LABELS, content)
    return Labels(assigned, len(pixels))


def assignment(folder: Path, device: torch.device) -> Assignment:
    """Return the classes of the neurons stored in ``folder``.

    Raises:
        FileNotFoundError, snnfast.checkpoint.CheckpointError: the labels are missing or damaged.
    """
    path = folder / LABELS
    if not path.is_file():
        raise FileNotFoundError(f"there are no labels {path}: assign them first (snnfast assign stdp)")
    content = read_checkpoint(path, KIND)
    return Assignment(*(content[name].to(device) for name in ("labels", "rates")))


def stored(settings: StdpSettings, run: Run, data: Data, folder: Path) -> Labels:
    """Return the labels in ``folder``.

    Raises:
        FileNotFoundError, snnfast.checkpoint.CheckpointError: the labels are missing, or belong to another state of
            the network.
    """
    path = folder / LABELS
    if not path.is_file():
        raise FileNotFoundError(f"there are no labels {path}: assign them first (snnfast assign stdp)")
    content = read_checkpoint(path, KIND)
    same_settings(path, content["settings"], settings.plain())
    if content["epoch"] != run.epoch:
        raise CheckpointError(f"{path} is of an earlier state of the network; assign again (snnfast assign stdp)")
    labels, rates = (content[name].to(data.device) for name in ("labels", "rates"))
    return Labels(Assignment(labels, rates), content["images"])


def infer(
    settings: StdpSettings,
    run: Run,
    data: Data,
    labels: Labels,
    out: Path | None = None,
    *,
    progress: bool | None = None,
) -> Result:
    """Score the held-out images by the labels of the neurons; write ``confusion.png`` into ``out``.

    ``measured`` of the result: ``votes``, the accuracy by name of the vote; ``silent``, the share of the images for
    which no neuron spiked; ``spikes`` of all neurons per image; ``confusion``, counts ``[C][C]`` of the mean vote, one
    row per true class; ``assignment_images``.
    """
    pixels, true = data.held_out
    counts = responses(cast(DiehlAndCook2015, run.model), pixels, settings.seed, "infer", progress)
    predicted = {vote: predict(counts, labels.assigned, vote=vote) for vote in VOTES}
    votes = {vote: float((p == true).double().mean()) for vote, p in predicted.items()}
    spikes = counts.sum(1).double()
    known = labels.assigned.rates.shape[1]
    pairs = torch.bincount(true * known + predicted["mean"], minlength=known**2)
    confusion = pairs.reshape(known, known).cpu()
    if out is not None:
        from snnfast_zoo import visual

        visual.save(visual.confusion(confusion), out / CONFUSION)
    silent, per_image = float((spikes == 0).double().mean()), float(spikes.mean())
    measured = {
        "votes": votes,
        "silent": silent,
        "spikes": per_image,
        "confusion": confusion.tolist(),
        "assignment_images": labels.images,
    }
    remarks = (
        labels.summary(),
        f"{100 * votes['mean']:.2f} % (mean vote), {100 * votes['proportion']:.2f} % (proportion vote); "
        f"{per_image:.1f} spikes an image, {100 * silent:.2f} % silent",
    )
    return Result(settings, run, data.split, votes["mean"], measured, remarks, out)


def assignment_images(settings: StdpSettings) -> int:
    """Return the largest number of training images that determine the labels of the neurons."""
    return max(ASSIGNMENT_IMAGES, ASSIGNMENT_IMAGES_A_NEURON * settings.neurons)


def responses(model: DiehlAndCook2015, pixels: Tensor, seed: int, purpose: str, progress: bool | None = None) -> Tensor:
    """Return spike counts ``[P, N]`` for images in [0, 1], without learning.

    Args:
        model: the network.
        pixels: the images.
        seed: seed of the run.
        purpose: "assign" or "infer", which draw different input spikes.
        progress: progress bar; see :func:`snnfast.train.fit`.
    """
    model.eval()
    seeds = _spike_seeds(seed, len(pixels), purpose)
    intensity = model.settings.intensity
    counts = []
    with progress_bar(purpose, len(pixels), progress=progress) as bar:
        parts = zip(pixels.split(IMAGES_PER_CALL), seeds.split(IMAGES_PER_CALL))
        for part, part_seeds in parts:
            counts.append(model.present(part * intensity, seeds=part_seeds).counts)
            bar.update(len(part))
    spikes = torch.cat(counts, -2)
    silent = float((spikes.sum(-1) == 0).double().mean())
    if silent > 0.5:
        warnings.warn(
            f"stdp: {purpose}: {100 * silent:.0f} % of the images made no neuron spike; raise --intensity or --norm",
            stacklevel=2,
        )
    return spikes


def _spike_seeds(seed: int, images: int, purpose: str) -> Tensor:
    """Return the seeds of the spikes of images that the run of ``seed`` presents without learning."""
    generator = torch.Generator().manual_seed((seed << 20) + 2**20 - STREAMS[purpose])
    return torch.randint(2**63 - 1, (images,), generator=generator)
