"""Settings of BP-STDP (Tavanaei and Maida 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnfast.encoder import BernoulliEncoder, RegularEncoder
from snnfast_zoo.train import samples
from snnfast_zoo.train.settings import SOURCES, FoldedSettings, option

from .model import preset

DATASETS = ("xor", "iris", "digits", "mnist")
ENCODINGS = {"regular": RegularEncoder, "bernoulli": BernoulliEncoder}


@dataclass(frozen=True, kw_only=True)
class BpStdpSettings(FoldedSettings):
    """Settings of a run of BP-STDP. A step is 1 ms."""

    name = "bp-stdp"

    dataset: str = option(
        "digits",
        f"digits, iris, xor (all in the package), mnist, or your own images: {SOURCES}.",
        choices=DATASETS,
        user_data=True,
    )
    encoding: str = option("regular", "Input spikes: regular or bernoulli.", choices=tuple(ENCODINGS))
    num_steps: int = option(50, "Steps of a presentation.", least=1, flag="--steps")
    scale: float = option(2.0, "Intensity that fires in every step.", above=0)
    hidden: tuple[int, ...] = option((100,), "Hidden neurons; repeat for more layers.", least=1)
    std: tuple[float, ...] = option(
        (1.0,), "Standard deviation of the initial weights; one for all layers, or repeat for each layer.", least=0
    )
    epsilon: int = option(4, "Steps that a window reaches back.", least=1)
    beta: float = option(250.0, "Rate at which the right output should fire, Hz.", least=0, most=1000)
    update: str = option(
        "step",
        "When the weights change: in every step, as in the paper, or after each sequence.",
        choices=("step", "sequence"),
    )
    shift: int = option(0, "Move images by up to this many pixels, anew in each epoch.", least=0)
    epochs: int = option(20, "Passes over the training data.", least=0)
    batch_size: int = option(1, "Samples that see the same weights.", least=1)
    lr: float = option(0.0005, "Initial learning rate.", above=0)
    cosine: bool = option(True, "Lower the learning rate to 0 along a cosine.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == "xor" and (self.validate or self.folds):
            raise ValueError("bp-stdp: xor has four patterns: no validation, no folds")
        images = samples.IMAGES
        self._only("shift", self.dataset in images, " and ".join(images), self.dataset)
        if len(self.std) not in (1, len(self.hidden) + 1):
            raise ValueError(
                f"bp-stdp: std must be one number, or one a layer, {len(self.hidden) + 1}, got {len(self.std)}"
            )


def chosen(dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of docs/results.md; a user's images get those of the digits."""
    dataset = dataset if dataset in DATASETS else "digits"
    network = preset(dataset, changes.get("hidden"))
    hidden, std = network["hidden"], network["std"]
    found = {"hidden": hidden, "std": std if isinstance(std, tuple) else (std,)}
    if dataset == "xor":
        found |= {"epochs": 100, "lr": 0.01, "cosine": False}
    elif dataset == "iris":
        found |= {"scale": 0.7, "epochs": 60, "lr": 0.003}
    elif dataset == "digits":
        found |= {"update": "sequence", "batch_size": 20, "lr": 1e-3}
    elif dataset == "mnist":
        found |= {"encoding": "bernoulli", "update": "sequence", "batch_size": 20, "lr": 4e-4}
        found |= {"epochs": 8} if len(hidden) == 1 else {"shift": 1, "epochs": 16}
    return found
