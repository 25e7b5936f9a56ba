"""Training of ReLU networks for conversion: Diehl et al. 2015 on MNIST, VGG16 and ResNet20 on CIFAR-10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from snnfast_zoo.train import images
from snnfast_zoo.train.images import IMAGE_SHAPES
from snnfast_zoo.train.place import Data, Place
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.settings import option

from ..classifier import ClassifierSettings, ready, train_classifier
from .diehl2015 import Diehl2015
from .resnet20 import ResNet20
from .vgg16 import HIDDEN, PLAN, VGG16

NETWORKS = ("cnn", "dense", "vgg", "vgg16", "resnet20")


@dataclass(frozen=True, kw_only=True)
class AnnSettings(ClassifierSettings):
    """Settings of a run that trains an ANN for conversion."""

    name = "ann"

    network: str = option(
        "cnn",
        "train diehl2015: cnn or dense. train vgg16: vgg16 or resnet20 (Sengupta et al. 2019), or vgg, a small one "
        "with batch norm and max pooling.",
        choices=NETWORKS,
    )
    width: float = option(1.0, "vgg16: factor on the channels and hidden neurons.", above=0)
    hidden: tuple[int, ...] | None = option(
        None,
        "vgg16: neurons of a fully connected layer before the last; repeat for more layers, 0 for none. "
        "Default: 4096 and 4096, times the width.",
        least=0,
    )
    pooling: str = option("average", "vgg16: average or max.", choices=("average", "max"))
    batch_norm: bool = option(
        False, "vgg16 and resnet20: batch norm after convolutions; in vgg16 it replaces the dropout there."
    )
    dropout: float = option(
        0.0,
        "Probability of dropout; VGG16 uses it after fully connected layers, and 0.2 after convolutions.",
        least=0,
        below=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "hidden", "pooling"):
            self._only(name, self.network == "vgg16", "vgg16", self.network)
        large = self.network in ("vgg16", "resnet20")
        self._only("batch_norm", large, "vgg16 and resnet20", self.network)


def chosen(networks: Sequence[str], dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of docs/results.md, for a procedure that trains ``networks``."""
    usual = "vgg16" if dataset == "cifar10" and "vgg16" in networks else networks[0]
    network = changes.get("network", usual)
    if network not in networks:
        command = "vgg16" if "vgg16" in networks else "diehl2015"
        raise ValueError(f"{command}: network must be one of {', '.join(networks)}, got {network!r}")
    found: dict[str, Any] = {"network": network}
    if dataset == "mnist":
        found |= {"lr": 2e-3, "shift": 1.0, "rotate": 10.0, "scale": 0.1}
        if network == "cnn":
            found |= {"epochs": 12, "dropout": 0.1}
        elif network == "vgg":
            found |= {"epochs": 6}
        elif network == "dense":
            found |= {"epochs": 15, "lr": 1e-3, "dropout": 0.2}
    elif dataset == "cifar10":
        found |= {"epochs": 300, "batch_size": 64, "optimizer": "sgd", "lr": 1e-2}
        found |= {"weight_decay": 5e-4, "dropout": 0.5, "crop": 4, "flip": True}
    else:
        found |= {"epochs": 20, "batch_size": 32, "lr": 4e-3}
    return found


def model(settings: AnnSettings, data: Data) -> nn.Module:
    """Return the untrained network of the settings."""
    shape, classes = data.train[0].shape[1:], images.classes(settings.dataset, data)
    net = network(settings, shape, classes).to(data.device)
    if settings.precision == "bfloat16":
        # Convolutions and poolings in bfloat16 are faster in this layout.
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def network(settings: AnnSettings, shape: Sequence[int] | None = None, classes: int = images.CLASSES) -> nn.Module:
    """Return the untrained network of the settings, for images of ``shape`` in ``classes`` classes."""
    shape = IMAGE_SHAPES[settings.dataset] if shape is None else tuple(shape)
    if settings.network in ("cnn", "dense"):
        hidden = None if settings.network == "cnn" else (1200, 1200)
        if settings.dataset not in ("digits", "mnist"):
            # Images too small for the paper's convolutions use those of the digits.
            small = {"kernel_size": 3, "padding": 1} if min(shape[1:]) < 16 else {}
            return Diehl2015(input_shape=shape, num_classes=classes, hidden=hidden, dropout=settings.dropout, **small)
        return Diehl2015.preset(settings.dataset, hidden=hidden, dropout=settings.dropout)
    if settings.network == "resnet20":
        return ResNet20(
            input_shape=shape, num_classes=classes, dropout=settings.dropout, batch_norm=settings.batch_norm
        )
    if settings.network == "vgg":
        return VGG16(
            (16, 16, "P", 32, 32, "P", 64, 64),
            (128,),
            input_shape=shape,
            num_classes=classes,
            pooling="max",
            batch_norm=True,
            dropout=(0.0, settings.dropout),
        )

    def wide(size: int) -> int:
        return max(1, round(settings.width * size))

    sizes = settings.hidden
    return VGG16(
        [entry if isinstance(entry, str) else wide(entry) for entry in PLAN],
        [wide(size) for size in HIDDEN] if sizes is None else [size for size in sizes if size],
        input_shape=shape,
        num_classes=classes,
        pooling=settings.pooling,
        batch_norm=settings.batch_norm,
        dropout=(0.0 if settings.batch_norm else 0.2, settings.dropout),
    )


def train(settings: AnnSettings, place: Place) -> Result:
    """Train a ReLU network for conversion, and score the held-out images."""
    return train_classifier(settings, place, model, "ANN")


diehl2015 = Procedure(
    *("diehl2015", AnnSettings, partial(chosen, ("cnn", "dense")), images.load, model, train),
    ready=ready,
    paper="Diehl et al. 2015",
    network="Diehl2015",
    stem=lambda settings: settings.network,
)
vgg16 = Procedure(
    *("vgg16", AnnSettings, partial(chosen, ("vgg", "vgg16", "resnet20")), images.load, model, train),
    ready=ready,
    paper="Sengupta et al. 2019",
    network="VGG16",
    stem=lambda settings: settings.network,
)
