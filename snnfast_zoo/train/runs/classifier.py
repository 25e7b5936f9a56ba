"""Training of classifiers of images by the gradient of their cross entropy: settings, optimizer, augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast_zoo.data.vision import torchvision_modules
from snnfast_zoo.train import Run

from . import images
from .images import IMAGE_SHAPES
from .run import Data, Procedure
from .settings import SOURCES, option


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(images.Augmented):
    """Settings shared by the procedures that train image classifiers by gradient."""

    dataset: str = option(
        "digits",
        f"digits (in the package), mnist, cifar10, or your own images: {SOURCES}.",
        choices=tuple(IMAGE_SHAPES),
        user_data=True,
    )
    epochs: int = option(20, "Epochs; also the length of the schedule.", least=0)
    batch_size: int = option(100, "Images in each step.", least=1)
    optimizer: str = option("adam", "adam, or sgd with momentum 0.9.", choices=("adam", "sgd"))
    nesterov: bool = option(False, "sgd: use Nesterov's momentum.")
    weight_decay: float = option(0.0, "Share of each parameter that is added to its gradient.", least=0)
    label_smoothing: float = option(0.0, "Share of a label that is spread over all classes.", least=0, below=1)
    lr: float = option(1e-3, "Largest learning rate.", above=0)
    schedule: str = option(
        "cosine",
        "Learning rate of an epoch: cosine falls to 0; one-cycle rises from lr / 25, then falls to nearly 0.",
        choices=("cosine", "one-cycle"),
    )
    warm_up: float = option(0.3, "one-cycle: share of the epochs in which the rate rises.", above=0, below=1)
    precision: str = option(
        "float32",
        "float32, or bfloat16 for products and convolutions; weights stay float32.",
        choices=("float32", "bfloat16"),
    )
    crop: int = option(
        0, "Augmentation: width of a black border, in pixels; images are then cropped at random to their size.", least=0
    )
    flip: bool = option(False, "Augmentation: mirror half of the images, at random.")
    cutout: int = option(
        0,
        "Augmentation: side of a square, in pixels, that is set to 0 at a random place (DeVries and Taylor 2017).",
        least=0,
    )
    cutmix: float = option(
        0.0,
        "Augmentation: share of the batches in which every image gets a rectangle of another one, and of its label as "
        "much (Yun et al. 2019); needs torchvision.",
        least=0,
        most=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._only("nesterov", self.optimizer == "sgd", "sgd", self.optimizer)
        self._only("warm_up", self.schedule == "one-cycle", "one-cycle", self.schedule)


C = TypeVar("C", bound=ClassifierSettings)


class Classifier(Procedure[C]):
    """Classifiers of images, trained by cross entropy."""

    load = staticmethod(images.load)

    def ready(self, settings: C, x: Tensor) -> Tensor:
        """Normalise the samples of a data set that is trained normalised."""
        return images.normalize(settings.dataset, 255 * x) if settings.dataset in images.NORMALIZATION else x

    def optimizer(self, settings: C, model: nn.Module) -> torch.optim.Optimizer:
        """Return Adam or SGD."""
        parameters, decay = model.parameters(), settings.weight_decay
        if settings.optimizer == "adam":
            return torch.optim.Adam(parameters, settings.lr, weight_decay=decay, fused=True)
        return torch.optim.SGD(
            parameters, settings.lr, momentum=0.9, weight_decay=decay, nesterov=settings.nesterov, fused=True
        )

    def scheduler(self, settings: C, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
        """Return a cosine schedule or a one-cycle schedule."""
        if settings.schedule == "cosine":
            return super().scheduler(settings, optimizer)
        # One step more than epochs: the learning rate of the last epoch is not 0.
        steps, rising = max(settings.epochs, 1) + 1, settings.warm_up
        if rising * steps == 1:  # the first epoch has the largest rate, and PyTorch divides 0 by 0
            rising -= 1e-9
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.lr, steps, pct_start=rising, cycle_momentum=False
        )

    def learning(self, settings: C, run: Run, data: Data) -> dict[str, Any]:
        """Return the arguments of :func:`snnfast.train.fit`."""
        return {
            "batch_size": settings.batch_size,
            "loss": partial(F.cross_entropy, label_smoothing=settings.label_smoothing),
            "augment": augment(settings),
            "mix": mix(settings, data),
            "precision": getattr(torch, settings.precision),
            "recalibrate": images.recalibration(settings),
        }


def augment(settings: ClassifierSettings) -> Callable[[Tensor], Tensor] | None:
    """Return the map from training images to the network's input, changed at random; None if nothing changes."""
    move = images.augmentation(settings)
    changes: list[Callable[[Tensor], Tensor]] = []
    if settings.crop:
        changes.append(partial(images.crop, padding=settings.crop))
    if settings.flip:
        changes.append(images.flip)
    if settings.dataset in images.NORMALIZATION:
        changes.append(partial(images.normalize, settings.dataset))
    if move is not None:
        changes.append(move)
    if settings.cutout:
        changes.append(partial(images.cutout, side=settings.cutout))
    if not changes:
        return None

    def change(batch: Tensor) -> Tensor:
        for transform in changes:
            batch = transform(batch)
        return batch

    return change


def mix(settings: ClassifierSettings, data: Data) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Return CutMix of torchvision in a share of the batches, or None when the settings ask for none."""
    if not settings.cutmix:
        return None
    classes = images.classes(settings.dataset, data)
    torchvision_modules(f"{settings.name}: cutmix")
    from torchvision.transforms import v2

    mixed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = v2.RandomApply(
        [v2.CutMix(num_classes=classes)], p=settings.cutmix
    )
    return mixed
