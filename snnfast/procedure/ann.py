"""Training of ReLU networks that are to be converted: Diehl et al. 2015 on MNIST, VGG16 on CIFAR-10."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast import visual
from snnfast.model import VGG16, Diehl2015, ResNet20
from snnfast.model.vgg16 import HIDDEN, PLAN
from snnfast.procedure.images import (
    IMAGE_SHAPES,
    NORMALISATION,
    augmentation,
    crop,
    flip,
    load,
    normalise,
)
from snnfast.train import CheckpointError, Run, evaluate, fit, read_checkpoint

__all__ = [
    "CHECKPOINT",
    "Result",
    "Settings",
    "Trained",
    "load",
    "network",
    "normalise",
    "prepare",
    "preset",
    "train",
    "trained",
]

CHECKPOINT, RESULT = "checkpoint.pt", "result.json"
NETWORKS = ("cnn", "dense", "vgg", "vgg16", "resnet20")
SMALL_VGG = (16, 16, "P", 32, 32, "P", 64, 64)


@dataclass(frozen=True)
class Settings:
    """What decides the course of a run, and its result.

    Attributes:
        network: "cnn" or "dense" (:class:`snnfast.model.Diehl2015`), "vgg" (small, with batch normalisation and max
            pooling), "vgg16" (:class:`snnfast.model.VGG16`) or "resnet20" (:class:`snnfast.model.ResNet20`).
        dataset: "digits", "mnist" or "cifar10".
        width: of "vgg16": its channels and hidden neurons times this.
        batch_norm: batch normalisation after every convolution of "vgg16", instead of dropout there.
        epochs: passes over the training images; also the length of the schedule.
        batch_size: images a step.
        optimizer: "adam", or "sgd" with momentum 0.9 and weight decay 5e-4.
        lr: largest learning rate.
        schedule: "cosine", from ``lr`` in the first epoch to 0; "one-cycle", from ``lr / 25`` up in 3 of 10 epochs,
            then down to nearly 0. A rate holds for an epoch.
        precision: "float32" or "bfloat16" (products and convolutions; weights stay float32).
        dropout: probability of dropout; VGG16 has 0.2 after convolutions and this after fully connected layers.
        crop: training images are padded with so many black pixels on every side and cut at random to their size.
        shift: training images are shifted by up to so many pixels in both directions, drawn anew for every image.
        rotate: and rotated by up to so many degrees.
        scale: and scaled by a factor from ``1 - scale`` to ``1 + scale``, height and width each.
        flip: and mirrored left to right, every second on average.
        seed: seed of weights, order, dropout and augmentation.
        validate: train without the validation split and watch that while training, not the test images.
    """

    network: str = "cnn"
    dataset: str = "digits"
    width: float = 1.0
    batch_norm: bool = False
    epochs: int = 20
    batch_size: int = 100
    optimizer: str = "adam"
    lr: float = 1e-3
    schedule: str = "cosine"
    precision: str = "float32"
    dropout: float = 0.0
    crop: int = 0
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    flip: bool = False
    seed: int = 0
    validate: bool = False

    def __post_init__(self) -> None:
        choices = {
            "network": NETWORKS,
            "dataset": IMAGE_SHAPES,
            "optimizer": ("adam", "sgd"),
            "schedule": ("cosine", "one-cycle"),
            "precision": ("float32", "bfloat16"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"ann: {name} must be one of {', '.join(allowed)}, got {value!r}")
        if not (math.isfinite(self.width) and self.width > 0):
            raise ValueError(f"ann: width must be positive and finite, got {self.width}")
        if self.network != "vgg16" and (self.width != 1 or self.batch_norm):
            raise ValueError(f"ann: width and batch_norm are for vgg16, got {self.network}")
        if self.crop < 0:
            raise ValueError(f"ann: crop must not be negative, got {self.crop}")
        if self.epochs < 0:
            raise ValueError(f"ann: epochs must not be negative, got {self.epochs}")
        if self.batch_size < 1:
            raise ValueError(f"ann: batch_size must be at least 1, got {self.batch_size}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"ann: lr must be positive and finite, got {self.lr}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"ann: dropout must lie in [0, 1), got {self.dropout}")
        for name in ("shift", "rotate", "scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"ann: {name} must be finite and not negative, got {value}")


def preset(network: str, dataset: str, **changes: Any) -> Settings:
    """The settings for a network and a data set, with ``changes``."""
    chosen: dict[str, Any] = {}
    if dataset == "digits":
        chosen |= {"epochs": 20, "batch_size": 32, "lr": 4e-3}
    if dataset == "mnist":
        chosen |= {"lr": 2e-3, "shift": 1.0, "rotate": 10.0, "scale": 0.1}
        chosen |= {"epochs": 12, "dropout": 0.1} if network == "cnn" else {}
        chosen |= {"epochs": 6} if network == "vgg" else {}
        chosen |= {"epochs": 15, "lr": 1e-3, "dropout": 0.2} if network == "dense" else {}
    if dataset == "cifar10":
        chosen |= {"epochs": 300, "batch_size": 64, "optimizer": "sgd", "lr": 1e-2, "dropout": 0.5}
        chosen |= {"crop": 4, "flip": True}
    return Settings(**{"network": network, "dataset": dataset, **chosen, **changes})


def network(settings: Settings) -> nn.Module:
    """The network that the settings name, with the weights it starts from."""
    shape = IMAGE_SHAPES[settings.dataset]
    small: dict[str, Any] = {"kernel_size": 3, "padding": 1} if shape[1] < 28 else {}
    if settings.network == "cnn":
        return Diehl2015(input_shape=shape, dropout=settings.dropout, **small)
    if settings.network == "dense":
        return Diehl2015(input_shape=shape, hidden=(1200, 1200), dropout=settings.dropout)
    if settings.network == "resnet20":
        return ResNet20(input_shape=shape, dropout=settings.dropout)
    if settings.network == "vgg":
        return VGG16(
            SMALL_VGG,
            (128,),
            input_shape=shape,
            pooling="max",
            batch_norm=True,
            dropout=(0.0, settings.dropout),
        )

    def wide(size: int) -> int:
        return max(1, round(settings.width * size))

    return VGG16(
        [entry if isinstance(entry, str) else wide(entry) for entry in PLAN],
        [wide(size) for size in HIDDEN],
        input_shape=shape,
        batch_norm=settings.batch_norm,
        dropout=(0.0 if settings.batch_norm else 0.2, settings.dropout),
    )


def prepare(settings: Settings, device: torch.device | str = "cpu") -> Run:
    """Model, optimizer and schedule of a run at its beginning; sets the seed of torch's global generator."""
    torch.manual_seed(settings.seed)
    model = network(settings).to(device)
    if settings.precision == "bfloat16":
        # Faster, most of all in bfloat16.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = model.parameters()
    optimizer: torch.optim.Optimizer
    if settings.optimizer == "adam":
        optimizer = torch.optim.Adam(parameters, lr=settings.lr)
    else:
        optimizer = torch.optim.SGD(parameters, lr=settings.lr, momentum=0.9, weight_decay=5e-4)
    epochs = max(settings.epochs, 1)
    scheduler: torch.optim.lr_scheduler.LRScheduler
    if settings.schedule == "cosine":
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    else:
        # One step more than epochs: the last epoch learns, too.
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.lr, epochs + 1, cycle_momentum=False
        )
    return Run(model, optimizer, scheduler, settings=asdict(settings))


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, with the settings of its run and the epochs done."""

    settings: Settings
    model: nn.Module
    epoch: int


def trained(folder: Path, device: torch.device | str = "cpu") -> Trained:
    """The network of the run in ``folder``.

    Raises:
        FileNotFoundError, snnfast.train.CheckpointError: there is no checkpoint, or one of something else.
    """
    path = folder / CHECKPOINT
    checkpoint = read_checkpoint(path)
    try:
        settings = Settings(**checkpoint["settings"])
        model = network(settings)
        model.load_state_dict(checkpoint["model"])
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not of a network to convert: {error}") from error
    return Trained(settings, model.to(device).eval(), checkpoint["epoch"])


def augment(settings: Settings) -> Callable[[Tensor], Tensor] | None:
    """From the training images of a batch to what the network takes, changed at random; None if nothing changes."""
    move = augmentation(settings)
    changes: list[Callable[[Tensor], Tensor]] = []
    if settings.crop:
        changes.append(partial(crop, padding=settings.crop))
    if settings.flip:
        changes.append(flip)
    if settings.dataset in NORMALISATION:
        changes.append(partial(normalise, settings.dataset))
    if move is not None:
        changes.append(move)
    if not changes:
        return None

    def change(images: Tensor) -> Tensor:
        for one in changes:
            images = one(images)
        return images

    return change


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
            f"ANN: test accuracy {100 * self.test_accuracy:.2f} % after {self.run.epoch} epochs, "
            f"{self.seconds:.0f} s\n{self.out}: {CHECKPOINT}, {RESULT}, curves.png"
        )


def train(
    settings: Settings,
    out: Path,
    *,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    resume: bool = False,
    progress: bool | None = None,
) -> Result:
    """Trains, and keeps checkpoint, result and curves in ``out``; curves also live in a window.

    Args:
        settings: what decides the run.
        out: folder, made if missing.
        root: folder of the data set.
        download: let torchvision download the data set.
        device: where it runs.
        resume: go on from the checkpoint in ``out``, which must be of the same settings.
        progress: progress bar; see :func:`snnfast.train.fit`.

    Raises:
        FileExistsError: ``out`` holds a checkpoint and ``resume`` is False.
        FileNotFoundError, snnfast.train.CheckpointError: there is nothing to resume, or it does
            not fit.
        ValueError, ImportError: see :func:`snnfast.procedure.images.load`.
    """
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise FileExistsError(
            f"{checkpoint} exists: resume it (--resume), or give another folder (--out)"
        )
    run = prepare(settings, device)
    if resume:
        run.load(checkpoint)
    images = load(settings, root, download=download, device=device)
    live = visual.Live(out / "curves.png")
    fit(
        run,
        images.train,
        images.held_out,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        loss=F.cross_entropy,
        augment=augment(settings),
        precision=getattr(torch, settings.precision),
        checkpoint=checkpoint,
        progress=progress,
        after_epoch=lambda run: live.update(curves(run)),
    )
    live.close()
    # In float32, as a conversion runs it.
    score = evaluate(run.model, images.test, loss=F.cross_entropy)
    result = Result(run, score.accuracy, out)
    numbers = {
        "settings": asdict(settings),
        "test_accuracy": result.test_accuracy,
        "seconds": round(result.seconds, 3),
        "threads": torch.get_num_threads(),
        "history": run.history,
    }
    (out / RESULT).write_text(json.dumps(numbers, indent=2) + "\n")
    return result


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
    title = f"{run.settings['network']}, {run.settings['dataset']}"
    return visual.curves(series, title=title)
