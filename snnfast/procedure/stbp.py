"""STBP: spatio-temporal backpropagation with the network of Wu et al. 2018, on digits and MNIST."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast import visual
from snnfast.model import Wu2018
from snnfast.procedure.images import IMAGE_SHAPES, augmentation, load
from snnfast.train import Run, evaluate, fit, load_weights

__all__ = [
    "CHECKPOINT",
    "Figures",
    "Result",
    "Settings",
    "augmentation",
    "curves",
    "load",
    "loss",
    "prepare",
    "preset",
    "raster",
    "train",
]
CHECKPOINT = "checkpoint.pt"
DATASETS = ("digits", "mnist")


@dataclass(frozen=True)
class Settings:
    """What decides the course of a run, and its result.

    Attributes:
        dataset: "digits" or "mnist".
        hidden: hidden layers of the fully connected network; None for the convolutional one.
        time_interval: steps per image.
        encoding: "bernoulli" or "direct"; see :class:`snnfast.model.Wu2018`.
        epochs: passes over the training images; also the length of the cosine that takes the learning rate to 0.
        batch_size: images a step.
        lr: Adam's learning rate in the first epoch.
        shift: training images are shifted by up to so many pixels in both directions, drawn anew for every image.
        rotate: and rotated by up to so many degrees.
        scale: and scaled by a factor from ``1 - scale`` to ``1 + scale``, height and width each.
        precision: "float32" or "bfloat16" (products and convolutions; membranes stay float32).
        seed: seed of weights, order, augmentation and encoding.
        validate: train without the validation split and watch that while training, not the test images.
    """

    dataset: str = "digits"
    hidden: tuple[int, ...] | None = None
    time_interval: int = 5
    encoding: str = "bernoulli"
    epochs: int = 20
    batch_size: int = 100
    lr: float = 1e-3
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    precision: str = "float32"
    seed: int = 0
    validate: bool = False

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(
                f"stbp: dataset must be one of {', '.join(DATASETS)}, got {self.dataset!r}"
            )
        if self.epochs < 0:
            raise ValueError(f"stbp: epochs must not be negative, got {self.epochs}")
        if self.batch_size < 1:
            raise ValueError(f"stbp: batch_size must be at least 1, got {self.batch_size}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"stbp: lr must be positive and finite, got {self.lr}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"stbp: precision must be float32 or bfloat16, got {self.precision!r}")
        for name in ("shift", "rotate", "scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"stbp: {name} must be finite and not negative, got {value}")


def preset(dataset: str, hidden: tuple[int, ...] | None = None, **changes: Any) -> Settings:
    """The settings of docs/results.md for a data set and a network, with ``changes``."""
    chosen: dict[str, Any] = {"encoding": "direct"}
    if dataset == "digits":
        chosen |= {"time_interval": 8, "epochs": 20, "batch_size": 32, "lr": 4e-3}
    if dataset == "mnist":
        chosen |= {"shift": 1.0, "rotate": 10.0, "scale": 0.1}
        if hidden is None:
            chosen |= {"time_interval": 5, "epochs": 14, "lr": 3e-3}
        else:
            chosen |= {"time_interval": 8, "epochs": 30, "lr": 1e-3}
    return Settings(**{"dataset": dataset, "hidden": hidden, **chosen, **changes})


def prepare(settings: Settings, device: torch.device | str = "cpu") -> Run:
    """Model, optimizer and schedule of a run at its beginning; sets the seed of torch's global generator."""
    torch.manual_seed(settings.seed)
    model = Wu2018(
        time_interval=settings.time_interval,
        input_shape=IMAGE_SHAPES[settings.dataset],
        hidden=settings.hidden,
        encoding=settings.encoding,
    ).to(device)
    # Convolutions and poolings are faster so, most of all in bfloat16; the neurons read either layout in place.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(settings.epochs, 1))
    plain = asdict(settings) | {
        "hidden": None if settings.hidden is None else list(settings.hidden)
    }
    return Run(model, optimizer, scheduler, settings=plain)


def loss(rates: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error between the outputs' rates ``[B, classes]`` and the one-hot labels, as in the manual.

    The paper's loss (its equation 5) sums over the classes and halves: the same up to a constant, which Adam ignores.
    """
    return F.mse_loss(rates, F.one_hot(labels, rates.shape[1]).to(rates))


@dataclass(frozen=True)
class Result:
    """A finished run, its accuracy on the test images in [0, 1], and where its files are."""

    run: Run
    test_accuracy: float
    out: Path

    @property
    def seconds(self) -> float:
        """Training and watching, over all epochs, interruptions not counted."""
        return sum(row["seconds"] for row in self.run.history)

    def summary(self) -> str:
        """The result in two lines."""
        return (
            f"test accuracy {100 * self.test_accuracy:.2f} % after {self.run.epoch} epochs, "
            f"{self.seconds:.0f} s\n{self.out}: {CHECKPOINT}, curves.png, raster.png"
        )


def train(
    settings: Settings,
    out: Path,
    *,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    resume: bool = False,
    weights: Path | None = None,
    progress: bool | None = None,
) -> Result:
    """Trains, and keeps checkpoint, curves and a raster in ``out``; curves also live in a window.

    Args:
        settings: what decides the run.
        out: folder, made if missing.
        root: folder of MNIST.
        download: let torchvision download MNIST.
        device: where it runs.
        resume: go on from the checkpoint in ``out``, which must be of the same settings.
        weights: checkpoint whose weights to start from, of a run with the same network; unused when resuming.
        progress: progress bar; see :func:`snnfast.train.fit`.

    Raises:
        FileExistsError: ``out`` holds a checkpoint and ``resume`` is False.
        FileNotFoundError, snnfast.train.CheckpointError: there is nothing to resume, or it does
            not fit.
        ValueError, ImportError: see :func:`load`.
    """
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise FileExistsError(
            f"{checkpoint} exists: resume it (--resume), or give another folder (--out)"
        )
    run = prepare(settings, device)
    if resume:
        run.load(checkpoint)
    elif weights is not None:
        load_weights(run.model, weights)
    images = load(settings, root, download=download, device=device)
    figures = Figures(out, images.test)
    fit(
        run,
        images.train,
        images.held_out,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        loss=loss,
        augment=augmentation(settings),
        precision=getattr(torch, settings.precision),
        checkpoint=checkpoint,
        progress=progress,
        after_epoch=figures.update,
    )
    figures.finish(run)
    score = evaluate(
        run.model,
        images.test,
        loss=loss,
        batch_size=settings.batch_size,
        precision=getattr(torch, settings.precision),
    )
    return Result(run, score.accuracy, out)


class Figures:
    """Curves and raster of a run, as files in ``out`` and live where there is a display."""

    def __init__(self, out: Path, images: tuple[Tensor, Tensor], every: float = 5.0) -> None:
        """``images`` are what the raster is drawn for; ``every`` so many seconds at most."""
        self._curves = visual.Live(out / "curves.png")
        self._raster = visual.Live(out / "raster.png")
        self._images, self._every, self._drawn = images, every, -math.inf

    def update(self, run: Run) -> None:
        """Draws, unless it did so a moment ago: short epochs are not to wait for figures."""
        if time.monotonic() - self._drawn >= self._every:
            self.draw(run)

    def draw(self, run: Run) -> None:
        """Draws now."""
        if run.history:
            self._curves.update(curves(run))
        self._raster.update(raster(run.model, self._images))
        self._drawn = time.monotonic()

    def finish(self, run: Run) -> None:
        """Draws the last state and closes the windows; the files stay."""
        self.draw(run)
        self._curves.close()
        self._raster.close()


def curves(run: Run) -> Figure:
    """Loss and accuracy over the epochs of a run."""
    held_out = "val" if run.settings["validate"] else "test"
    names = {
        "train_loss": "loss",
        "train_accuracy": "accuracy",
        f"{held_out}_loss": "test_loss",
        f"{held_out}_accuracy": "test_accuracy",
    }
    series = {name: [row[key] for row in run.history] for name, key in names.items()}
    return visual.curves(series, title=f"STBP, {run.settings['dataset']}")


def raster(model: nn.Module, images: tuple[Tensor, Tensor], *, num_steps: int = 40) -> Figure:
    """Spikes of the last hidden layer of a :class:`Wu2018` for the first of ``images``."""
    assert isinstance(model, Wu2018)
    recorded: list[Tensor] = []
    hidden = model.layers[-3]
    hook = hidden.register_forward_hook(lambda module, x, spikes: recorded.append(spikes))
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), torch.random.fork_rng([] if device.type == "cpu" else [device]):
            rates = model(images[0][:1].to(device), num_steps)
    finally:
        hook.remove()
    title = f"a {int(images[1][0])}, seen as {int(rates.argmax())}: spikes of the last hidden layer"
    return visual.raster(recorded[0], title=title)
