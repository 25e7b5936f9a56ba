"""Direct training of a spiking VGG with batch norm, on images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from snnfast_zoo.train.runs import images
from snnfast_zoo.train.runs.classifier import Classifier, ClassifierSettings
from snnfast_zoo.train.runs.run import Data
from snnfast_zoo.train.runs.settings import option

from .model import PLAN, SpikingVGG


@dataclass(frozen=True, kw_only=True)
class SpikingVggSettings(ClassifierSettings):
    """Settings of a run of the spiking VGG."""

    name = "spiking_vgg"

    num_steps: int = option(4, "Time steps per image.", least=1, flag="--steps")
    width: float = option(1.0, "Factor on the channels, which are 64 to 256.", above=0)


class SpikingVgg(Classifier[SpikingVggSettings]):
    """A spiking VGG with batch norm, trained directly (STBP)."""

    name, title, Settings = "spiking-vgg", "Spiking VGG", SpikingVggSettings
    paper, network_name = "Wu et al. 2018", "SpikingVGG"
    revival = "a lower --lr"

    def chosen(self, dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return SGD with a one-cycle schedule for CIFAR-10; Adam and fewer channels for other data sets."""
        if dataset != "cifar10":
            small = {"width": 0.25, "lr": 4e-3}
            return small | ({"epochs": 6} if dataset == "mnist" else {"batch_size": 32})
        chosen = {"epochs": 30, "batch_size": 128, "optimizer": "sgd", "nesterov": True, "lr": 0.1}
        chosen |= {"weight_decay": 5e-4, "schedule": "one-cycle", "warm_up": 0.2}
        chosen |= {"label_smoothing": 0.1, "crop": 4, "flip": True}
        if changes.get("optimizer", "sgd") != "sgd":
            chosen.pop("nesterov")
        if changes.get("schedule", "one-cycle") != "one-cycle":
            chosen.pop("warm_up")
        return chosen

    def model(self, settings: SpikingVggSettings, data: Data) -> SpikingVGG:
        """Return the untrained network."""
        model = SpikingVGG(
            [e if isinstance(e, str) else max(1, round(settings.width * e)) for e in PLAN],
            settings.num_steps,
            input_shape=data.train[0].shape[1:],
            num_classes=images.classes(settings.dataset, data),
        ).to(data.device)
        # Convolutions, normalisation and poolings are faster in this layout.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model
