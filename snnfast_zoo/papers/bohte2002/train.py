"""Training by SpikeProp (Bohte et al. 2002), on XOR, Iris, Wisconsin breast cancer, digits and MNIST."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import CosineAnnealingLR

from snnfast.encoder import LatencyEncoder, PopulationEncoder
from snnfast.nn import SpikeProp, loss
from snnfast_zoo.train import Run, evaluate, fit, samples
from snnfast_zoo.train.figures import curves
from snnfast_zoo.train.fit import Augment
from snnfast_zoo.train.place import Data, Place
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.samples import CLASSES, IMAGES, classes
from snnfast_zoo.train.score import Decide, Loss, Part, Score
from snnfast_zoo.train.settings import SOURCES, FoldedSettings, option

from . import figures as bohte2002_figures
from .lif import LIFNetwork
from .model import Bohte2002

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


def load(
    settings: SpikepropSettings,
    root: str | Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """Return the data of a run as spike times, in the parts of :func:`snnfast_zoo.train.samples.load`.

    The code is fitted to the training part without noise.
    """
    parts = samples.load(settings, root, download=download)
    encode = coder(settings, parts.train[0])
    copies = _noisy(settings, parts.train[0]), parts.train[1].repeat(settings.copies)

    def part(values: Part) -> Part:
        return encode(values[0]).to(device), values[1].to(device)

    return Data(part(copies), part(parts.held_out), parts.split, parts.raw)


def ready(settings: SpikepropSettings, x: Tensor) -> Tensor:
    """Return spike times; the codes of iris and cancer are fitted to their training parts."""
    values = x.flatten(1)
    fitted = settings.dataset in ("iris", "cancer", "xor")
    train = samples.load(settings).train[0] if fitted else values
    times: Tensor = coder(settings, train)(values.cpu())
    return times.to(x.device)


def model(settings: SpikepropSettings, data: Data) -> Bohte2002 | LIFNetwork:
    """Return the network, calibrated on the first 1,000 training samples."""
    times = data.train[0]
    outputs = 1 if settings.dataset == "xor" else classes(settings.dataset, data)
    how: dict[str, Any] = {name: getattr(settings, name) for name in ("t_max", "virtual", "slope_min")}
    network: Bohte2002 | LIFNetwork
    if settings.neurons == "lif":
        how |= {"tau_mem": settings.tau, "tau_syn": settings.tau_syn or settings.tau}
        how["max_spikes"] = settings.max_spikes
        network = LIFNetwork(times.shape[1], settings.hidden, outputs, **how)
    else:
        delays = settings.terminals if settings.terminals > 1 else [0.0]
        how["tau"] = settings.tau
        network = Bohte2002(times.shape[1], settings.hidden, outputs, delays, **how)
    network.reset_parameters(settings.low, 1.0)
    network.to(times.device)
    network.calibrate(times[:1000], torch.linspace(*settings.fire_at, len(network.layers)).tolist())
    return network


def train(settings: SpikepropSettings, place: Place) -> Result:
    """Train, score the held-out samples, and count bounded slopes."""
    with place.reading() as where:
        data = load(settings, **where)
    place.processes.refuse_several("spikeprop")
    torch.manual_seed(settings.seed)
    network = model(settings, data)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
    cosine = CosineAnnealingLR(optimizer, max(settings.epochs, 1)) if settings.cosine else None
    run = Run(network, optimizer, cosine, score=Score(decide(settings)))
    # XOR: both parts are the same patterns.
    names = {"loss": "loss", "accuracy": "accuracy"} if settings.dataset == "xor" else None
    figures = {"curves": curves(settings, "SpikeProp", names)}
    if settings.neurons == "srm":
        figures |= bohte2002_figures.figures(settings.dataset, run, data.held_out)
    place.begin(run, data, figures)
    fit(
        run,
        data.train,
        data.held_out,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        loss=objective(settings),
        augment=augmentation(settings),
        calibrate=None,  # done by model
        output=place,
    )
    accuracy = evaluate(network, data.held_out, loss=objective(settings), decide=run.score.decide).accuracy
    measured: dict[str, Any] = {"clipped": None, "converged": converged(settings, run)}
    remarks = []
    if settings.neurons == "srm":
        measured["clipped"] = clipped_shares(network, data.held_out[0])
        shares = ("no spikes" if math.isnan(share) else f"{100 * share:.1f} %" for share in measured["clipped"])
        remarks.append(f"spikes whose slope is below slope_min, by layer: {', '.join(shares)}")
    revival = "an earlier --fire-at, or --slope-min 1 or more"
    return place.finish(run, data, accuracy, measured, remarks, revival=revival)


def decide(settings: SpikepropSettings) -> Decide:
    """Return the map from output times ``[B, O]`` to labels: first spike, for XOR the nearer target; else -1."""
    if settings.dataset != "xor":
        return lambda t: loss.first_spike(t, settings.t_max)
    middle = sum(settings.targets) / 2
    return lambda t: torch.where(t[:, 0] > settings.t_max, -1, (t[:, 0] < middle).long())


def answers(settings: SpikepropSettings, network: nn.Module, times: Tensor, folder: Path) -> Tensor:
    """Return the labels of input times."""
    return decide(settings)(network(times))


def _noisy(settings: SpikepropSettings, x: Tensor) -> Tensor:
    """Return noisy copies ``[copies N, F]`` of the training features ``[N, F]``, the same for every run of a seed."""
    copies = x.repeat(settings.copies, 1)
    if not settings.noise:
        return copies
    generator = torch.Generator().manual_seed(settings.seed)
    spread = settings.noise * (x.amax(0) - x.amin(0))
    return copies + spread * torch.randn(copies.shape, generator=generator)


def coder(settings: SpikepropSettings, train: Tensor) -> nn.Module:
    """Return the encoder of features ``[N, F]`` into spike times ``[N, I]``, fitted to the training part."""
    low, high = train.amin(0), train.amax(0)
    if settings.code == "population":
        encoder = PopulationEncoder(settings.fields, low, high, settings.span, settings.span, beta=settings.beta)
        return _Code(encoder, settings.bias)
    latency = LatencyEncoder(settings.span, threshold=settings.threshold)
    if settings.dataset in ("iris", "cancer", "xor"):
        return _Code(latency, settings.bias, low, high)
    return _Code(latency, settings.bias, 0.0, 1.0)  # pixels: noise may exceed the bounds


class _Code(nn.Module):
    """An encoder of features, scaled to [0, 1] if bounded, with ``bias`` inputs that always fire at 0."""

    def __init__(self, encoder: nn.Module, bias: int, low: Any = None, high: Any = None) -> None:
        super().__init__()
        self.encoder, self.bias, self.low, self.high = encoder, bias, low, high

    def forward(self, x: Tensor) -> Tensor:
        if self.low is not None:
            x = ((x - self.low) / (self.high - self.low)).clamp(0, 1)
        return F.pad(self.encoder(x).flatten(1), (0, self.bias))


def objective(settings: SpikepropSettings) -> Loss:
    """Return the loss of a run, a function of output times ``[B, O]`` and labels ``[B]``."""
    if settings.loss == "cross-entropy":
        return partial(loss.first_spike_cross_entropy, t_max=settings.t_max)
    early, late = settings.targets

    def squared_error(t: Tensor, labels: Tensor) -> Tensor:
        wanted = labels[:, None] if t.shape[1] == 1 else F.one_hot(labels, t.shape[1])
        return loss.spike_time_squared_error(t, late + (early - late) * wanted.to(t))

    return squared_error


def augmentation(settings: SpikepropSettings) -> Augment | None:
    """Return the map from input times ``[B, I]`` and labels to augmented ones; None without augmentation.

    Random numbers are drawn on the CPU, so that every device sees the same.
    """
    if not (settings.shift or settings.jitter):
        return None

    def augment(t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if settings.shift:
            pixels = t[:, : t.shape[1] - settings.bias]
            moved = samples.moved(pixels, settings.shift, empty=math.inf)
            t = torch.cat([moved, t[:, pixels.shape[1] :]], 1)
        if settings.jitter:  # no spike before 0; inf stays inf
            t = (t + (torch.randn(t.shape) * settings.jitter).to(t)).clamp(min=0)
        return t, labels

    return augment


def converged(settings: SpikepropSettings, run: Run) -> int | None:
    """Return the first cycle of XOR whose sum of squared errors is below 1 ms^2; None if there is none."""
    if settings.dataset != "xor":
        return None
    # The loss is half the mean over the four patterns.
    learned = (i + 1 for i, row in enumerate(run.history) if 8 * row["loss"] < 1)
    return next(learned, None)


def clipped_shares(model: nn.Module, times: Tensor) -> list[float]:
    """Return :meth:`snnfast.nn.SpikeProp.clipped_share` by layer for the first 1,000 of the input times ``[N, I]``."""
    network = cast(Bohte2002, model)
    with torch.no_grad():
        heard = network.spike_times(times[:1000])
    return [cast(SpikeProp, layer).clipped_share(t) for layer, t in zip(network.layers, heard)]


spikeprop = Procedure(
    *("spikeprop", SpikepropSettings, chosen, load, model, train, ready, answers),
    paper="Bohte et al. 2002",
    network="Bohte2002",
)
