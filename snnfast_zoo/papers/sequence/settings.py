"""Settings of a run on sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnfast_zoo.train.settings import SOURCES, FoldedSettings, option

from .model import NEURONS, READOUTS

GENERATED = ("adding", "xor", "copy")
IMAGES = ("smnist", "psmnist")
RECORDINGS = ("qtdb", "nmnist")
EVENTS = "events"
SURROGATES = ("atan", "fast_sigmoid", "gaussian", "rectangle", "sigmoid", "triangle")


@dataclass(frozen=True, kw_only=True)
class SequenceSettings(FoldedSettings):
    """Settings of a run on sequences."""

    name = "sequence"

    dataset: str = option(
        "adding",
        "adding, xor or copy (generated); smnist (MNIST by rows) or psmnist (permuted MNIST by pixels); qtdb or nmnist "
        f"(recordings); or your own sequences, frames of events, or images, by rows: {SOURCES}.",
        choices=(*GENERATED, *IMAGES, *RECORDINGS),
        flag="--task --dataset",
        user_data=True,
    )
    num_steps: int = option(100, "Steps of a generated sequence.", least=10, flag="--steps")
    samples: int = option(20000, "How many training sequences to generate.", least=1)
    hidden: tuple[int, ...] = option((192,), "Neurons of a layer; repeat for more layers.", least=1)
    neuron: str = option(
        "adlif",
        "lif, alif, adlif, brf (balanced resonators), or events: lif by exact events, learned by EventProp.",
        choices=(*NEURONS, EVENTS),
    )
    recurrent: bool = option(True, "Feed the spikes of a layer back to it.")
    spikes_adapt: bool = option(
        False, "Only spikes drive the adaptation of adlif (a is 0), which then remembers longer."
    )
    max_delay: float = option(0.0, "Longest learned delay of the spikes that are fed back, in steps.", least=0)
    readout: str = option("last", "last, max or mean membrane.", choices=tuple(READOUTS))
    tau: float = option(20.0, "Time constant of lif, alif and events, in steps.", least=1)
    omega: tuple[float, float] = option(
        (3.0, 10.0), "Lowest and highest frequency with which brf begins, in radians a 100 steps.", least=0, below=100
    )
    tau_out: float = option(5.0, "Time constant of the readout, in steps.", least=1)
    surrogate: str = option("fast_sigmoid", "Surrogate gradient of the spikes.", choices=SURROGATES)
    alpha: float | None = option(None, "Steepness of the surrogate gradient; default: the surrogate's own.", above=0)
    gain: float | None = option(
        None,
        "Factor on the initial input weights of every layer of neurons; default: so that each layer fires at a tenth "
        "of the steps.",
        above=0,
    )
    leads: float = option(
        0.0,
        "Augmentation of qtdb: exchange the two leads in this share of the sequences; invert a lead in half as many.",
        least=0,
        most=1,
    )
    epochs: int = option(50, "Epochs; also the length of the learning rate's cosine.", least=0)
    updates: int = option(
        0, "Least number of steps of the optimizer: few sequences get more epochs than --epochs.", least=0
    )
    batch_size: int = option(64, "Sequences in each step.", least=1)
    lr: float = option(3e-3, "Adam's initial learning rate.", above=0)
    clip: float = option(1.0, "Clip gradients to this norm.", above=0)
    rule: str = option(
        "bptt",
        "bptt (backpropagation through time) or eprop (e-prop: gradients do not flow through recurrent spikes).",
        choices=("bptt", "eprop"),
    )

    @property
    def learns_xor(self) -> bool:
        """False: the task "xor" of sequences differs from that of the four patterns."""
        return False

    def __post_init__(self) -> None:
        super().__post_init__()
        generated = f"generated sequences, {', '.join(GENERATED)}"
        self._only("num_steps", self.dataset in GENERATED, generated, self.dataset)
        self._only("samples", self.dataset in GENERATED, generated, self.dataset)
        one_answer = self.dataset not in ("copy", "qtdb")
        self._only("readout", one_answer, "tasks with one answer", self.dataset)
        self._only("folds", self.dataset == "nmnist", "nmnist", self.dataset)
        self._only("leads", self.dataset == "qtdb", "qtdb", self.dataset)
        self._only("max_delay", self.recurrent, "recurrent layers", "recurrent=False")
        self._only("max_delay", self.rule == "bptt", "bptt", self.rule)
        self._only("spikes_adapt", self.neuron == "adlif", "adlif", self.neuron)
        self._only("omega", self.neuron == "brf", "brf", self.neuron)
        self._only("tau", self.neuron in ("lif", "alif", EVENTS), "lif, alif and events", self.neuron)
        if self.neuron == EVENTS:
            if self.dataset in (*GENERATED, *IMAGES, "qtdb"):
                raise ValueError(
                    f"sequence: neurons events are for frames of events, such as nmnist, not {self.dataset}"
                )
            for name in ("max_delay", "rule", "tau_out", "surrogate", "alpha", "gain"):
                self._only(name, False, f"neurons that run in steps, {', '.join(NEURONS)}", self.neuron)
            if self.readout == "last":
                raise ValueError("sequence: neurons events take readout mean or max, got last")


CHOSEN: dict[str, dict[str, Any]] = {
    "adding": {"epochs": 64, "gain": 20.0},
    "xor": {"samples": 10000, "hidden": (64,), "epochs": 15, "gain": 60.0},
    "copy": {"hidden": (128,), "gain": 60.0, "max_delay": 100.0, "tau_out": 1.0, "epochs": 30},
    "smnist": {"hidden": (128,), "readout": "mean", "epochs": 20, "gain": 5.0},
    "psmnist": {"hidden": (64, 212, 212), "readout": "mean", "epochs": 27, "batch_size": 8, "lr": 0.012, "gain": 40.0},
    "psmnist brf": {
        **{"hidden": (256,), "omega": (15.0, 85.0), "readout": "mean", "tau_out": 20.0, "gain": 60.0},
        **{"epochs": 30, "batch_size": 8, "lr": 0.03, "alpha": 5.0},
    },
    "qtdb": {"hidden": (100,), "epochs": 40, "batch_size": 4, "lr": 0.04, "alpha": 5.0, "leads": 0.5},
    "nmnist events": {"hidden": (128,), "recurrent": False, "readout": "mean", "epochs": 10, "batch_size": 32},
    "nmnist": {"hidden": (256,), "recurrent": False, "readout": "mean", "epochs": 20, "batch_size": 32, "lr": 0.03},
}

NEUTRAL: dict[str, Any] = {
    **{"hidden": (128,), "readout": "mean", "epochs": 20, "updates": 500},
    **{"batch_size": 16, "lr": 0.01},  # calibrated weights are large; Adam's steps do not grow with them
}


def chosen(dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of docs/results.md, or neutral settings for user data."""
    found = dict(CHOSEN.get(f"{dataset} {changes.get('neuron')}", CHOSEN.get(dataset, NEUTRAL)))
    if not changes.get("recurrent", True):
        found.pop("max_delay", None)
    if "epochs" in changes and not changes.get("updates"):
        found.pop("updates", None)
    return found
