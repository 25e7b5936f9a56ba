"""Class labels of neurons trained by STDP, and their accuracy on images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from snnfast.learning.labels import UNASSIGNED, VOTES, Assignment, assign_labels, predict
from snnfast.train import Run, progress_bar
from snnfast.train.checkpoint import CheckpointError, read_checkpoint, same_settings, write_checkpoint
from snnfast.train.runs.images import classes
from snnfast.train.runs.result import Result
from snnfast.train.runs.run import Data

from .model import DiehlAndCook2015
from .options import StdpSettings

LABELS, CONFUSION, KIND = "labels.pt", "confusion.png", "labels of stdp"
ASSIGNMENT_IMAGES, ASSIGNMENT_IMAGES_A_NEURON = 10_000, 10
IMAGES_PER_CALL = 1000
# A run has numbered generators: epochs draw from those from 0 on, what does not learn from these, counted from the end.
STREAMS = {"assign": 1, "infer": 2}


class Labels(NamedTuple):
    """The classes of the neurons, and of how many images they are."""

    assigned: Assignment
    images: int

    def summary(self) -> str:
        """How many neurons every class has, in a line."""
        of, known = self.assigned.labels, self.assigned.labels != UNASSIGNED
        sizes = torch.bincount(of[known].cpu(), minlength=self.assigned.rates.shape[1]).tolist()
        of_class = ", ".join(f"{c}: {n}" for c, n in enumerate(sizes))
        return f"neurons of each class: {of_class}; without a class: {int((~known).sum())}"


def assign(
    settings: StdpSettings,
    run: Run,
    data: Data,
    out: Path | None = None,
    *,
    images: int | None = None,
    progress: bool | None = None,
) -> Labels:
    """Labels every neuron by its responses to the last ``images`` training images, learning nothing.

    By default these are ten a neuron and at least 10,000, or all there are. Written to ``labels.pt`` in ``out``, from
    which :func:`stored` takes it.
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
            "progress": [run.epoch, run.images],
            "images": len(pixels),
            "labels": assigned.labels.cpu(),
            "rates": assigned.rates.cpu(),
        }
        write_checkpoint(out / LABELS, content)
    return Labels(assigned, len(pixels))


def assignment(folder: Path, device: torch.device) -> Assignment:
    """The classes of the neurons in ``folder``.

    Raises:
        FileNotFoundError, snnfast.checkpoint.CheckpointError: no labels there, or damaged ones.
    """
    path = folder / LABELS
    if not path.is_file():
        raise FileNotFoundError(f"there are no labels {path}: assign them first (snnfast assign stdp)")
    content = read_checkpoint(path, KIND)
    return Assignment(*(content[name].to(device) for name in ("labels", "rates")))


def stored(settings: StdpSettings, run: Run, data: Data, folder: Path) -> Labels:
    """The labels in ``folder``.

    Raises:
        FileNotFoundError, snnfast.checkpoint.CheckpointError: no labels there, or of another state of the network.
    """
    path = folder / LABELS
    if not path.is_file():
        raise FileNotFoundError(f"there are no labels {path}: assign them first (snnfast assign stdp)")
    content = read_checkpoint(path, KIND)
    same_settings(path, content["settings"], settings.plain())
    if content["progress"] != [run.epoch, run.images]:
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
    """Scores the held-out images by the neurons' labels; writes ``confusion.png`` into ``out``.

    ``measured`` of the result: ``votes``, the accuracy by name of the vote; ``silent``, the part of the images for
    which no neuron spiked; ``spikes`` of all neurons an image; ``confusion``, counts ``[C][C]`` of the mean vote, rows
    the true classes; ``assignment_images``.
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
        from snnfast import visual

        visual.save(visual.confusion(confusion), out / CONFUSION)
    silent, an_image = float((spikes == 0).double().mean()), float(spikes.mean())
    measured = {
        "votes": votes,
        "silent": silent,
        "spikes": an_image,
        "confusion": confusion.tolist(),
        "assignment_images": labels.images,
    }
    remarks = (
        labels.summary(),
        f"{100 * votes['mean']:.2f} % (mean vote), {100 * votes['proportion']:.2f} % (proportion vote); "
        f"{an_image:.1f} spikes an image, {100 * silent:.2f} % silent",
    )
    return Result(settings, run, data.split, votes["mean"], measured, remarks, out)


def assignment_images(settings: StdpSettings) -> int:
    """How many training images decide on the labels of the neurons, if there are so many."""
    return max(ASSIGNMENT_IMAGES, ASSIGNMENT_IMAGES_A_NEURON * settings.neurons)


def responses(
    model: DiehlAndCook2015, pixels: Tensor, seed: int | Sequence[int], purpose: str, progress: bool | None = None
) -> Tensor:
    """Spikes ``[P, N]`` for images in [0, 1], without learning; of K networks ``[K, P, N]``.

    Args:
        model: the network, or K.
        pixels: the images.
        seed: of the run, or one a network.
        purpose: "assign" or "infer", which draw different input spikes.
        progress: progress bar; see :func:`snnfast.train.fit`.
    """
    model.eval()
    if isinstance(seed, int):
        seeds = _spike_seeds(seed, len(pixels), purpose)
    else:
        seeds = torch.stack([_spike_seeds(one, len(pixels), purpose) for one in seed])
    intensity = model.settings.intensity
    counts = []
    with progress_bar(purpose, len(pixels), progress=progress) as bar:
        parts = zip(pixels.split(IMAGES_PER_CALL), seeds.split(IMAGES_PER_CALL, -1))
        for part, of_part in parts:
            counts.append(model.present(part * intensity, seeds=of_part).counts)
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
    """The seeds of the spikes of images that are presented without learning in the run of ``seed``."""
    generator = torch.Generator().manual_seed((seed << 20) + 2**20 - STREAMS[purpose])
    return torch.randint(2**63 - 1, (images,), generator=generator)
