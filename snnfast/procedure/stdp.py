"""STDP: the network of Diehl and Cook 2015 learns digits and MNIST without labels, then its neurons are labelled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from snnfast import data, visual
from snnfast.learning.labels import assignment, class_sums, predict
from snnfast.model import DiehlAndCook2015
from snnfast.model import diehl_cook2015_settings as network
from snnfast.train import CheckpointError, read_checkpoint, same_settings, write_checkpoint

CHECKPOINT = "checkpoint.pt"
CLASSES = 10
VALIDATION_IMAGES = 10_000  # of MNIST: the last of the training set
RECENT_IMAGES = 10_000  # about so many images decide on the labels of the running accuracy
SAVE_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class Dataset:
    """What depends on the images: their shape, images a call, changes to the presets, and more to "tuned"."""

    shape: tuple[int, int, int]
    images_per_call: int
    changes: Mapping[str, Any]
    tuned: Mapping[str, Any]


DATASETS = {
    "digits": Dataset((1, 8, 8), 100, {"norm": 0.3, "intensity": 300.0}, {"inhibition": 120.0}),
    "mnist": Dataset((1, 28, 28), 1000, {}, {}),
}


@dataclass(frozen=True)
class Settings:
    """What decides the course of a run, and its result.

    Attributes:
        dataset: "digits" or "mnist".
        neurons: excitatory neurons.
        preset: settings of the network by name; see :func:`snnfast.model.diehl_cook2015_settings.preset`.
        epochs: passes over the training images.
        images_per_call: learning rates, where they fall, do so once in so many images; None for the data set's.
        seed: of weights, order and spikes.
        validate: train without the validation split, and score that instead of the test images.
        changes: other values for single settings of the network, by name.
    """

    dataset: str = "digits"
    neurons: int = 100
    preset: str = "tuned"
    epochs: int = 2
    images_per_call: int | None = None
    seed: int = 0
    validate: bool = False
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(
                f"stdp: dataset must be one of {', '.join(DATASETS)}, got {self.dataset!r}"
            )
        if self.neurons < 1:
            raise ValueError(f"stdp: neurons must be at least 1, got {self.neurons}")
        if self.epochs < 0:
            raise ValueError(f"stdp: epochs must not be negative, got {self.epochs}")
        if self.images_per_call is None:
            object.__setattr__(self, "images_per_call", DATASETS[self.dataset].images_per_call)
        elif self.images_per_call < 1:
            raise ValueError(
                f"stdp: images_per_call must be at least 1, got {self.images_per_call}"
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"stdp: seed must lie in [0, 2**32), got {self.seed}")
        self.network(1)

    def network(self, images: int) -> network.Settings:
        """Settings of the network for a run over ``images`` training images."""
        dataset = DATASETS[self.dataset]
        tuned = dataset.tuned if self.preset == "tuned" else {}
        changes = {**dataset.changes, **tuned, **self.changes}
        presentations = max(self.epochs * images, 1)
        try:
            return network.preset(self.preset, self.neurons, presentations=presentations, **changes)
        except (ValueError, TypeError) as error:
            raise type(error)(f"stdp: {error}") from None


@dataclass(frozen=True)
class Data:
    """Images in [0, 1] and labels, in memory; ``held_out`` is the validation split or the test images."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]


def load(
    settings: Settings,
    root: Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """The images of a run; the validation split of MNIST are the last 10,000 training images.

    Raises:
        ValueError, FileNotFoundError, ImportError: MNIST without ``root``, not there, or without torchvision.
    """

    def split(name: str) -> tuple[Tensor, Tensor]:
        part = data.load(settings.dataset, root, split=name, download=download)
        images, labels = data.as_tensors(part)
        return images.to(device), labels.to(device)

    if not settings.validate:
        return Data(split("train+val"), split("test"))
    if settings.dataset == "digits":
        return Data(split("train"), split("val"))
    images, labels = split("train+val")
    n = len(images) - VALIDATION_IMAGES if len(images) > VALIDATION_IMAGES else len(images) // 2
    return Data((images[:n], labels[:n]), (images[n:], labels[n:]))


@dataclass
class Run:
    """A training run: all that changes in its course, and so all that a checkpoint holds.

    Attributes:
        model: the network.
        settings: what decides the run.
        epoch: epochs done.
        images: images presented in the epoch under way.
        seconds: time in which the network learned, encoding included, drawing and saving not.
        sums, seen: spikes of every neuron by class of the recent images ``[N, C]``, and how many these were ``[C]``.
        history: one dictionary a call: ``accuracy`` (by the labels that the images before it suggest; none in the
            first), ``spikes`` an image, ``silent`` (part of the images without a spike).
    """

    model: DiehlAndCook2015
    settings: Settings
    epoch: int
    images: int
    seconds: float
    sums: Tensor
    seen: Tensor
    history: list[dict[str, float]]

    def save(self, path: Path) -> None:
        """Writes a checkpoint."""
        content = {
            "settings": asdict(self.settings),
            "epoch": self.epoch,
            "images": self.images,
            "seconds": self.seconds,
            "sums": self.sums,
            "seen": self.seen,
            "history": self.history,
            "model": self.model.state_dict(),
        }
        write_checkpoint(path, content)

    def load(self, path: Path) -> None:
        """Goes on where the checkpoint ``path`` ended.

        Raises:
            FileNotFoundError: there is no such file.
            snnfast.train.CheckpointError: it is no checkpoint of this package, or one of a run with other settings.
        """
        checkpoint = read_checkpoint(path)
        same_settings(path, checkpoint["settings"], asdict(self.settings))
        try:
            self.model.load_state_dict(checkpoint["model"])
            self.epoch, self.images = checkpoint["epoch"], checkpoint["images"]
            self.seconds, self.history = checkpoint["seconds"], checkpoint["history"]
            self.sums, self.seen = (checkpoint[k].to(self.sums.device) for k in ("sums", "seen"))
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} does not fit this run: {error}") from error

    def learn(self, images: Tensor, labels: Tensor, seeds: Tensor) -> None:
        """Presents images in Hz, learns, and adds a row to the history."""
        start = time.perf_counter()
        counts = self.model.present(images, seeds=seeds).counts
        spikes = counts.sum(1)
        row = {
            "spikes": float(spikes.double().mean()),
            "silent": float((spikes == 0).double().mean()),
        }
        self.seconds += time.perf_counter() - start
        if bool(self.sums.any()):
            predicted = predict(counts, assignment(self.sums, self.seen))
            row["accuracy"] = float((predicted == labels).double().mean())
        self.history.append(row)
        keep = max(0.0, 1 - len(images) / RECENT_IMAGES)
        sums, seen = class_sums(counts, labels, CLASSES)
        self.sums, self.seen = keep * self.sums + sums, keep * self.seen + seen


def prepare(settings: Settings, images: int, device: torch.device | str = "cpu") -> Run:
    """A run over ``images`` training images at its beginning; sets the seed of torch's global generator."""
    torch.manual_seed(settings.seed)
    model = DiehlAndCook2015(
        settings.neurons, DATASETS[settings.dataset].shape, settings.network(images)
    ).to(device)
    sums = torch.zeros((settings.neurons, CLASSES), dtype=torch.float64, device=device)
    return Run(model, settings, 0, 0, 0.0, sums, torch.zeros_like(sums[0]), [])


def train(
    settings: Settings,
    out: Path,
    *,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    resume: bool = False,
    progress: bool | None = None,
    echo: Callable[[str], object] | None = tqdm.write,
) -> Run:
    """Trains, and keeps checkpoint, receptive fields and curves in ``out``; the pictures also live in a window.

    Args:
        settings: what decides the run.
        out: folder, made if missing.
        root: folder of MNIST.
        download: let torchvision download MNIST.
        device: where it runs.
        resume: go on from the checkpoint in ``out``, which must be of the same settings.
        progress: show a progress bar; None: if standard error is a terminal.
        echo: takes a line an epoch; None for silence.

    Raises:
        FileExistsError: ``out`` holds a checkpoint and ``resume`` is False.
        FileNotFoundError, snnfast.train.CheckpointError: there is nothing to resume, or it does not fit.
        ValueError, ImportError: see :func:`load`.
    """
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise FileExistsError(
            f"{checkpoint} exists: resume it (--resume), or give another folder (--out)"
        )
    if resume and not checkpoint.exists():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint}")
    images = load(settings, root, download=download, device=device).train
    run = prepare(settings, len(images[0]), device)
    if resume:
        run.load(checkpoint)
    else:
        run.save(checkpoint)
    figures = Figures(out)
    saved = time.monotonic()

    def after_call(run: Run) -> None:
        nonlocal saved
        if run.images == 0 or time.monotonic() - saved >= SAVE_EVERY:
            run.save(checkpoint)
            saved = time.monotonic()
        figures.update(run)

    fit(run, images, progress=progress, echo=echo, after_call=after_call)
    figures.finish(run)
    return run


def fit(
    run: Run,
    images: tuple[Tensor, Tensor],
    *,
    progress: bool | None = None,
    echo: Callable[[str], object] | None = tqdm.write,
    after_call: Callable[[Run], None] | None = None,
) -> None:
    """Presents ``images``, in [0, 1], and their labels until the epochs of ``run.settings`` are done.

    Order and spikes of an epoch follow from the seed and the epoch's number: a run that goes on from any call ends with
    the same weights, bit for bit, as one that was not interrupted. ``after_call`` is called after every call, for
    example to draw.
    """
    pixels, labels = images
    n, settings = len(pixels), run.settings
    size, intensity = settings.images_per_call, run.model.settings.intensity
    assert size is not None
    run.model.train()
    while run.epoch < settings.epochs:
        title = f"epoch {run.epoch + 1}/{settings.epochs}"
        generator = torch.Generator().manual_seed((settings.seed << 20) + run.epoch)
        order = torch.randperm(n, generator=generator)
        seeds = torch.randint(2**63 - 1, (n,), generator=generator)
        with _bar(title, n, run.images, progress) as bar:
            while run.images < n:
                run.model.set_progress((run.epoch * n + run.images) / (settings.epochs * n))
                now = slice(run.images, run.images + size)
                chosen = order[now].to(pixels.device)
                run.learn(pixels[chosen] * intensity, labels[chosen], seeds[now])
                run.images += len(chosen)
                bar.update(len(chosen))
                bar.set_postfix_str(describe(run.history[-1:]), refresh=False)
                if run.images == n:
                    run.epoch, run.images = run.epoch + 1, 0
                if after_call is not None:
                    after_call(run)
                if run.images == 0:
                    break
        if echo is not None:
            calls = run.history[-math.ceil(n / size) :]
            echo(f"{title}: {describe(calls)}, {run.seconds:.1f} s learning so far")


def _bar(title: str, images: int, done: int, progress: bool | None) -> Any:
    return tqdm(
        total=images,
        initial=done,
        desc=title,
        unit="img",
        disable=None if progress is None else not progress,
        leave=False,
        dynamic_ncols=True,
    )


def describe(calls: list[dict[str, float]]) -> str:
    """Rows of the history, averaged, in a few words."""

    def mean(name: str) -> float:
        values = [row[name] for row in calls if name in row]
        return sum(values) / len(values) if values else math.nan

    running = mean("accuracy")
    accuracy = "" if math.isnan(running) else f"running accuracy {100 * running:.1f} %, "
    return f"{accuracy}{mean('spikes'):.1f} spikes an image, {100 * mean('silent'):.1f} % silent"


class Figures:
    """Receptive fields and curves of a run, as files in ``out`` and live where there is a display."""

    def __init__(self, out: Path, every: float = 5.0) -> None:
        """Draws once in ``every`` seconds at most, and spends at most a twentieth of the time on it."""
        self._fields = visual.Live(out / "receptive_fields.png")
        self._curves = visual.Live(out / "curves.png")
        self._every, self._next = every, -math.inf

    def update(self, run: Run) -> None:
        """Draws, unless it did so a moment ago."""
        if time.monotonic() >= self._next:
            self.draw(run)

    def draw(self, run: Run) -> None:
        """Draws now."""
        start = time.monotonic()
        self._fields.update(receptive_fields(run))
        if any("accuracy" in row for row in run.history):
            self._curves.update(curves(run))
        end = time.monotonic()
        self._next = end + max(self._every, 20 * (end - start))

    def finish(self, run: Run) -> None:
        """Draws the last state and closes the windows; the files stay."""
        self.draw(run)
        self._fields.close()
        self._curves.close()


def receptive_fields(run: Run) -> Figure:
    """The weights of every neuron as an image."""
    title = f"{run.settings.neurons} neurons, epoch {run.epoch + (run.images > 0)}"
    shape = DATASETS[run.settings.dataset].shape[1:]
    return visual.receptive_fields(run.model.xe.w, shape=shape, title=title)


def curves(run: Run) -> Figure:
    """Running accuracy, spikes an image and silent images over the calls of a run."""
    rows = [row for row in run.history if "accuracy" in row]
    series = {
        "training_accuracy": [row["accuracy"] for row in rows],
        "spikes_an_image": [row["spikes"] for row in rows],
    }
    title = f"STDP, {run.settings.dataset}, {run.settings.neurons} neurons"
    xlabel = f"Images / {run.settings.images_per_call}"
    return visual.curves(series, xlabel=xlabel, title=title)
