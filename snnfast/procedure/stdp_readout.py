"""What neurons trained by :mod:`snnfast.procedure.stdp` stand for, and how well they tell images apart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from snnfast import visual
from snnfast.learning.labels import UNASSIGNED, VOTES, Assignment, assign_labels, predict
from snnfast.model import DiehlAndCook2015
from snnfast.procedure import stdp
from snnfast.train import CheckpointError, read_checkpoint, same_settings, write_checkpoint

LABELS, RESULT, CONFUSION = "labels.pt", "result.json", "confusion.png"
ASSIGNMENT_IMAGES, ASSIGNMENT_IMAGES_A_NEURON = 10_000, 10
IMAGES_PER_CALL = 1000


@dataclass(frozen=True)
class Trained:
    """A trained network and the images of its run."""

    run: stdp.Run
    images: stdp.Data


def trained(
    out: Path,
    *,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Trained:
    """The network of the checkpoint in ``out``, with its images.

    Raises:
        FileNotFoundError, snnfast.train.CheckpointError: there is no checkpoint, or not one of an STDP run.
        ValueError, ImportError: see :func:`snnfast.procedure.stdp.load`.
    """
    path = out / stdp.CHECKPOINT
    try:
        settings = stdp.Settings(**read_checkpoint(path)["settings"])
    except TypeError as error:
        raise CheckpointError(f"{path} is not of an STDP run: {error}") from error
    images = stdp.load(settings, root, download=download, device=device)
    run = stdp.prepare(settings, len(images.train[0]), device)
    run.load(path)
    return Trained(run, images)


def assign(
    of: Trained, out: Path, *, images: int | None = None, progress: bool | None = None
) -> Assignment:
    """Labels every neuron by its responses to the last ``images`` training images, learning nothing.

    By default these are ten a neuron and at least 10,000, or all there are. Written to ``labels.pt`` in ``out``, from
    which :func:`infer` takes it.
    """
    if images is None:
        neurons = of.run.settings.neurons
        images = max(ASSIGNMENT_IMAGES, ASSIGNMENT_IMAGES_A_NEURON * neurons)
    if images < 1:
        raise ValueError(f"stdp: images must be at least 1, got {images}")
    pixels, labels = (part[-images:] for part in of.images.train)
    counts = responses(of.run, pixels, stream=1, title="assign", progress=progress)
    assigned = assign_labels(counts, labels, stdp.CLASSES)
    content = {
        "settings": asdict(of.run.settings),
        "progress": _progress(of.run),
        "images": len(pixels),
        "labels": assigned.labels.cpu(),
        "rates": assigned.rates.cpu(),
    }
    write_checkpoint(out / LABELS, content)
    return assigned


def describe_assignment(assigned: Assignment) -> str:
    """How many neurons every class has, in a line."""
    sizes = torch.bincount(assigned.labels[assigned.labels >= 0].cpu(), minlength=stdp.CLASSES)
    silent = int((assigned.labels == UNASSIGNED).sum())
    of_class = ", ".join(f"{c}: {n}" for c, n in enumerate(sizes.tolist()))
    return f"neurons of each class: {of_class}; without a class: {silent}"


@dataclass(frozen=True)
class Result:
    """What the network said about the held-out images.

    Attributes:
        split: "test" or "validation".
        accuracy: by name of the vote, in [0, 1].
        confusion: counts ``[C, C]`` of the mean vote, rows the true classes.
        silent: part of the images for which no neuron spiked.
        spikes: spikes of all neurons an image.
    """

    split: str
    accuracy: dict[str, float]
    confusion: Tensor
    silent: float
    spikes: float

    def summary(self) -> str:
        """The result in a line."""
        votes = ", ".join(f"{100 * self.accuracy[v]:.2f} % ({v} vote)" for v in VOTES)
        return (
            f"{self.split} accuracy {votes}; {self.spikes:.1f} spikes an image, "
            f"{100 * self.silent:.2f} % silent"
        )


def infer(of: Trained, out: Path, *, progress: bool | None = None) -> Result:
    """Scores the held-out images with the labels in ``out``; writes ``confusion.png`` and ``result.json`` there.

    Raises:
        FileNotFoundError, snnfast.train.CheckpointError: no labels there, or labels of another state of the network.
    """
    path = out / LABELS
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no labels {path}: assign them first (snnfast assign stdp)"
        )
    stored = read_checkpoint(path)
    same_settings(path, stored["settings"], asdict(of.run.settings))
    if stored["progress"] != _progress(of.run):
        raise CheckpointError(
            f"{path} is of an earlier state of the network; assign again (snnfast assign stdp)"
        )
    device = of.run.sums.device
    assigned = Assignment(stored["labels"].to(device), stored["rates"].to(device))
    pixels, labels = of.images.held_out
    counts = responses(of.run, pixels, stream=2, title="infer", progress=progress)
    predicted = {vote: predict(counts, assigned, vote=vote) for vote in VOTES}
    spikes = counts.sum(1).double()
    result = Result(
        split="validation" if of.run.settings.validate else "test",
        accuracy={v: float((p == labels).double().mean()) for v, p in predicted.items()},
        confusion=_confusion(labels, predicted["mean"]),
        silent=float((spikes == 0).double().mean()),
        spikes=float(spikes.mean()),
    )
    visual.save(visual.confusion(result.confusion), out / CONFUSION)
    numbers = {
        "settings": asdict(of.run.settings),
        "split": result.split,
        "accuracy": result.accuracy,
        "silent": result.silent,
        "spikes": result.spikes,
        "images": len(labels),
        "assignment_images": stored["images"],
        "seconds_learning": round(of.run.seconds, 3),
        "threads": torch.get_num_threads(),
    }
    (out / RESULT).write_text(json.dumps(numbers, indent=2) + "\n")
    return result


def responses(
    run: stdp.Run, pixels: Tensor, *, stream: int, title: str, progress: bool | None = None
) -> Tensor:
    """Spikes ``[P, N]`` for images in [0, 1], without learning; another ``stream`` draws other input spikes."""
    generator = torch.Generator().manual_seed((run.settings.seed << 20) + 2**20 - stream)
    seeds = torch.randint(2**63 - 1, (len(pixels),), generator=generator)
    intensity = run.model.settings.intensity
    model: DiehlAndCook2015 = run.model.eval()
    counts = []
    with tqdm(
        total=len(pixels),
        desc=title,
        unit="img",
        disable=None if progress is None else not progress,
        leave=False,
        dynamic_ncols=True,
    ) as bar:
        for part, of_part in zip(pixels.split(IMAGES_PER_CALL), seeds.split(IMAGES_PER_CALL)):
            counts.append(model.present(part * intensity, seeds=of_part).counts)
            bar.update(len(part))
    return torch.cat(counts)


def _progress(run: stdp.Run) -> list[int]:
    return [run.epoch, run.images]


def _confusion(true: Tensor, predicted: Tensor) -> Tensor:
    pairs = torch.bincount(true * stdp.CLASSES + predicted, minlength=stdp.CLASSES**2)
    return pairs.reshape(stdp.CLASSES, stdp.CLASSES).cpu()
