"""Settings of SpikeProp (Bohte et al. 2002)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnfast_zoo.train.samples import CLASSES, IMAGES
from snnfast_zoo.train.settings import SOURCES, FoldedSettings, option

CODES = ("population", "latency")
NEURONS = ("srm", "lif")
LOSSES = ("cross-entropy", "squared-error")


@dataclass(frozen=True, kw_only=True)
class SpikepropSettings(FoldedSettings):
    """Settings of a run of SpikeProp. Times are in milliseconds."""

    name = "spikeprop"

    dataset: str = option(
        "iris",
        f"iris, cancer, digits, xor, yin-yang (all in the package), mnist, or your own images: {SOURCES}.",
        choices=tuple(CLASSES),
        user_data=True,
    )
    code: str = option("population", "population or latency.", choices=CODES)
    fields: int = option(12, "Neurons for each feature in the population code.", least=1)
    beta: float = option(1.5, "Larger means narrower fields in the population code; 1.5 in the paper.", above=0)
    span: float = option(10.0, "Time of the latest input spike, ms.", above=0)
    threshold: float | None = option(None, "Latency code: values up to this do not fire; default: all fire.")
    bias: int = option(1, "Inputs that always fire at 0.", least=0)
    hidden: tuple[int, ...] = option((10,), "Hidden neurons; repeat for more layers.", least=1)
    terminals: int = option(
        16, "Synapses for each connection, with delays of 1 ms, 2 ms, ...; a single one has no delay.", least=1
    )
    neurons: str = option("srm", "srm, which fire once, as in the paper, or lif, by EventProp.", choices=NEURONS)
    tau: float = option(7.0, "Time constant of the potentials, ms.", above=0)
    tau_syn: float | None = option(None, "lif: time constant of the currents, ms; default: --tau.", above=0)
    max_spikes: int = option(1, "lif: the most spikes of a hidden neuron.", least=1)
    t_max: float = option(40.0, "End of the observation, ms.", above=0)
    low: float = option(
        -0.5, "Draw initial weights from U(low, 1), then scale them for each neuron; see --fire-at.", below=1
    )
    fire_at: tuple[float, float] = option(
        (9.0, 14.0),
        "Mean firing times, ms, of the first layer and of the outputs before training; other layers fire in between.",
    )
    slope_min: float = option(0.05, "Least slope in the gradient, in units of threshold / tau.", least=0)
    virtual: float = option(4.0, "Scale of the times of silent outputs.", above=0)
    loss: str = option(
        "cross-entropy", "cross-entropy of the first spike, or squared-error to target times.", choices=LOSSES
    )
    targets: tuple[float, float] = option(
        (12.0, 16.0),
        "Squared error: target times of the right output and of the others; for XOR's one output those for true "
        "and false.",
    )
    copies: int = option(1, "How often each sample is in the training part.", least=1)
    noise: float = option(
        0.0, "Standard deviation of noise on the features of each copy, as a share of their range.", least=0
    )
    jitter: float = option(
        0.0, "Standard deviation of noise on the input times, ms, drawn anew for each sample and epoch.", least=0
    )
    shift: int = option(0, "Move images by up to this many pixels, anew in each epoch.", least=0)
    epochs: int = option(30, "Passes over the training data.", least=0)
    batch_size: int = option(20, "Samples in each step.", least=1)
    lr: float = option(0.01, "Adam's initial learning rate.", above=0)
    cosine: bool = option(True, "Lower the learning rate to 0 along a cosine.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.code == "population" and self.dataset not in ("iris", "cancer"):
            raise ValueError(f"spikeprop: the population code is for iris and cancer, {self.dataset} takes latency")
        if self.dataset == "xor" and (self.validate or self.folds or self.loss != "squared-error"):
            raise ValueError(
                "spikeprop: xor has four patterns and one output: no validation, no folds, loss squared-error"
            )
        for name in ("fields", "beta"):
            self._only(name, self.code == "population", "the population code", self.code)
        self._only("threshold", self.code == "latency", "the latency code", self.code)
        self._only("targets", self.loss == "squared-error", "squared-error", self.loss)
        lif = self.neurons == "lif"
        self._only("tau_syn", lif, "lif", self.neurons)
        self._only("max_spikes", lif, "lif", self.neurons)
        if lif and (self.terminals != 1 or self.dataset == "xor"):
            raise ValueError("spikeprop: neurons lif need terminals 1, and another data set than xor")
        self._only("shift", self.dataset in IMAGES, " and ".join(IMAGES), self.dataset)


def chosen(dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of docs/results.md."""
    code = changes.get("code", "population" if dataset in ("iris", "cancer") else "latency")
    found: dict[str, Any] = {"code": code}
    if dataset == "xor":
        found |= {"fire_at": (9.0, 13.0), "span": 6.0, "hidden": (5,), "low": 0.0}
        found |= {"loss": "squared-error", "targets": (10.0, 16.0)}
        found |= {"epochs": 100, "batch_size": 4, "lr": 0.05, "cosine": False}
    elif dataset == "iris":
        found |= {"loss": "squared-error"}
        if code == "population":
            found |= {"bias": 2, "tau": 30.0, "beta": 0.4, "copies": 5, "noise": 0.1}
            found |= {"epochs": 6}
        else:
            found |= {"epochs": 60, "lr": 0.02}
    elif dataset == "cancer":
        found |= {"hidden": (15,), "terminals": 8, "epochs": 10, "batch_size": 32}
        found |= {"lr": 0.003, "loss": "squared-error", "tau": 30.0}
        if code == "population":
            found |= {"fields": 7}
    else:
        found |= {"terminals": 1, "tau": 60.0, "t_max": 30.0, "fire_at": (6.0, 9.0)}
        found |= {"low": -0.6, "batch_size": 32, "hidden": (400,)}
        if dataset == "yin-yang":
            found |= {"hidden": (300,), "slope_min": 18.0, "epochs": 60, "batch_size": 64}
            found |= {"lr": 0.03 if changes.get("neurons") == "lif" else 0.01}
        elif dataset == "mnist":
            found |= {"span": 8.0, "threshold": 0.3, "epochs": 12, "lr": 0.002, "shift": 1}
        elif dataset not in CLASSES:  # a user's data: no jitter, which is tuned to the digits
            found |= {"threshold": 0.0, "slope_min": 18.0, "epochs": 80}
        else:
            found |= {"threshold": 0.0, "jitter": 2.0, "slope_min": 18.0, "epochs": 80}
    return found
