"""Training of image classifiers by the gradient of their cross entropy: ReLU networks and a spiking VGG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from snnfast_zoo.data.vision import torchvision_modules
from snnfast_zoo.train import Run, evaluate, fit, images
from snnfast_zoo.train.figures import curves
from snnfast_zoo.train.fit import Augment, recalibrate, refuse_without_norm
from snnfast_zoo.train.images import IMAGE_SHAPES, NORMALIZATION, normalize
from snnfast_zoo.train.place import Place
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.settings import SOURCES, option


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


def ready(settings: ClassifierSettings, x: Tensor) -> Tensor:
    """Normalise the samples of a data set that is trained normalised."""
    return normalize(settings.dataset, 255 * x) if settings.dataset in NORMALIZATION else x


def train_classifier(
    settings: ClassifierSettings,
    place: Place,
    model: Callable[..., nn.Module],
    title: str,
    *,
    revival: str = "snnfast.nn.calibrate_",
) -> Result:
    """Train ``model(settings, data)`` by cross entropy, and score the held-out images.

    Args:
        settings: the settings of the run.
        place: the place of the run.
        model: returns the untrained network.
        title: title of the figures.
        revival: what to try with a silent layer.
    """
    with place.reading() as where:
        data = images.load(settings, **where)
    torch.manual_seed(settings.seed)
    network = model(settings, data)
    if settings.recalibrate:
        refuse_without_norm(network)
    optimizer = make_optimizer(settings, network)
    run = Run(network, optimizer, make_scheduler(settings, optimizer), precision=getattr(torch, settings.precision))
    place.begin(run, data, {"curves": curves(settings, title)})
    loss = partial(F.cross_entropy, label_smoothing=settings.label_smoothing)
    fit(
        run,
        data.train,
        data.held_out,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        loss=loss,
        augment=augment(settings, images.classes(settings.dataset, data)),
        calibrate=0.1 if settings.is_own else None,  # would change the published results
        output=place,
    )
    if settings.recalibrate:
        recalibrate(run, data.train[0], partial(normalize, settings.dataset))
    return place.finish(run, data, evaluate(network, data.held_out, loss=loss).accuracy, revival=revival)


def make_optimizer(settings: ClassifierSettings, model: nn.Module) -> Optimizer:
    """Return Adam or SGD."""
    parameters, decay = model.parameters(), settings.weight_decay
    if settings.optimizer == "adam":
        return Adam(parameters, settings.lr, weight_decay=decay, fused=True)
    return SGD(parameters, settings.lr, momentum=0.9, weight_decay=decay, nesterov=settings.nesterov, fused=True)


def make_scheduler(settings: ClassifierSettings, optimizer: Optimizer) -> LRScheduler:
    """Return a cosine schedule or a one-cycle schedule."""
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimizer, max(settings.epochs, 1))
    # One step more than epochs: the learning rate of the last epoch is not 0.
    steps, rising = max(settings.epochs, 1) + 1, settings.warm_up
    if rising * steps == 1:  # the first epoch has the largest rate, and PyTorch divides 0 by 0
        rising -= 1e-9
    return OneCycleLR(optimizer, settings.lr, steps, pct_start=rising, cycle_momentum=False)


def augment(settings: ClassifierSettings, classes: int) -> Augment | None:
    """Return the map from training images and labels to the network's input and targets; None if nothing changes."""
    changes: list[Callable[[Tensor], Tensor]] = []
    if settings.crop:
        changes.append(partial(images.crop, padding=settings.crop))
    if settings.flip:
        changes.append(images.flip)
    if settings.dataset in NORMALIZATION:
        changes.append(partial(normalize, settings.dataset))
    move = images.augmentation(settings)
    if move is not None:
        changes.append(lambda x: move(x, x)[0])
    if settings.cutout:
        changes.append(partial(images.cutout, side=settings.cutout))
    mix = cutmix(settings, classes)
    if not changes and mix is None:
        return None

    def change(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        for transform in changes:
            x = transform(x)
        return (x, labels) if mix is None else mix(x, labels)

    return change


def cutmix(settings: ClassifierSettings, classes: int) -> Augment | None:
    """Return CutMix of torchvision in a share of the batches, or None when the settings ask for none."""
    if not settings.cutmix:
        return None
    torchvision_modules(f"{settings.name}: cutmix")
    from torchvision.transforms import v2

    mixed: Augment = v2.RandomApply([v2.CutMix(num_classes=classes)], p=settings.cutmix)
    return mixed
