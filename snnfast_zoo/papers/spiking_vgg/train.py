"""Direct training of a spiking VGG with batch norm, on images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from snnfast_zoo.train import images
from snnfast_zoo.train.place import Data, Place
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.settings import option

from ..classifier import ClassifierSettings, ready, train_classifier
from .model import PLAN, SpikingVGG


@dataclass(frozen=True, kw_only=True)
class SpikingVggSettings(ClassifierSettings):
    """Settings of a run of the spiking VGG."""

    name = "spiking_vgg"

    num_steps: int = option(4, "Time steps per image.", least=1, flag="--steps")
    width: float = option(1.0, "Factor on the channels, which are 64 to 256.", above=0)


def chosen(dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return SGD with a one-cycle schedule for CIFAR-10; Adam and fewer channels for other data sets."""
    if dataset != "cifar10":
        small = {"width": 0.25, "lr": 4e-3}
        return small | ({"epochs": 6} if dataset == "mnist" else {"batch_size": 32})
    found = {"epochs": 30, "batch_size": 128, "optimizer": "sgd", "nesterov": True, "lr": 0.1}
    found |= {"weight_decay": 5e-4, "schedule": "one-cycle", "warm_up": 0.2}
    found |= {"label_smoothing": 0.1, "crop": 4, "flip": True}
    if changes.get("optimizer", "sgd") != "sgd":
        found.pop("nesterov")
    if changes.get("schedule", "one-cycle") != "one-cycle":
        found.pop("warm_up")
    return found


def model(settings: SpikingVggSettings, data: Data) -> SpikingVGG:
    """Return the untrained network."""
    network = SpikingVGG(
        [e if isinstance(e, str) else max(1, round(settings.width * e)) for e in PLAN],
        settings.num_steps,
        input_shape=data.train[0].shape[1:],
        num_classes=images.classes(settings.dataset, data),
    ).to(data.device)
    # Convolutions, normalisation and poolings are faster in this layout.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def train(settings: SpikingVggSettings, place: Place) -> Result:
    """Train a spiking VGG with batch norm directly (STBP), and score the held-out images."""
    return train_classifier(settings, place, model, "Spiking VGG", revival="a lower --lr")


spiking_vgg = Procedure(
    *("spiking-vgg", SpikingVggSettings, chosen, images.load, model, train),
    ready=ready,
    paper="Wu et al. 2018",
    network="SpikingVGG",
)
