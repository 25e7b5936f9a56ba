"""BP-STDP (Tavanaei and Maida 2019): supervised learning from spikes, on XOR, Iris, digits and MNIST."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast import visual
from snnfast.encoder import Regular, Simple, desired_times
from snnfast.loss import bp_stdp_loss
from snnfast.model import TavanaeiAndMaida2017
from snnfast.model.tavanaei_maida2017 import SAMPLES_A_CALL, SECOND
from snnfast.ops import Rates
from snnfast.procedure import samples
from snnfast.procedure.repeats import Trial
from snnfast.procedure.samples import Data, Part
from snnfast.train import Loss, Run, Step, evaluate, fit, read_checkpoint

CHECKPOINT = "checkpoint.pt"
DATASETS = ("xor", "iris", "digits", "mnist")
ENCODINGS = {"regular": Regular, "bernoulli": Simple}
XOR_PRESENTATIONS = 25  # of each pattern, to score it


@dataclass(frozen=True)
class Settings:
    """What decides the course of a run, and its result. Steps are of 1 ms.

    Attributes:
        dataset: "xor", "iris", "digits" or "mnist".
        encoding: "regular" (:class:`snnfast.encoder.Regular`) or "bernoulli" (:class:`snnfast.encoder.Simple`).
        time_interval: steps of a presentation.
        scale: the intensity that fires in every step.
        hidden: sizes of the hidden layers.
        std: standard deviation of the initial weights, one a layer; one alone for all.
        epsilon: steps that a window reaches back.
        beta: rate at which the output of the class should fire, in Hz.
        update: "step": weights change in every step, as in the paper; "sequence": after each batch.
        shift: pixels by which an image is moved at most, drawn anew for each image and epoch.
        epochs: passes over the training data.
        batch_size: samples that see the same weights.
        lr: learning rate in the first epoch.
        cosine: take the learning rate to 0 over the epochs along a cosine; otherwise it stays.
        folds: cross-validation: the data are cut into so many parts; None for the data set's own split.
        fold: the part that is held out.
        split_seed: seed of the cut into folds.
        seed: seed of weights, order, input spikes and desired times.
        validate: train without the validation part and watch that while training, not the test part.
    """

    dataset: str = "digits"
    encoding: str = "regular"
    time_interval: int = 50
    scale: float = 2.0
    hidden: tuple[int, ...] = (100,)
    std: tuple[float, ...] = (1.0,)
    epsilon: int = 4
    beta: float = 250.0
    update: str = "step"
    shift: int = 0
    epochs: int = 20
    batch_size: int = 1
    lr: float = 0.0005
    cosine: bool = True
    folds: int | None = None
    fold: int = 0
    split_seed: int = 0
    seed: int = 0
    validate: bool = False

    def __post_init__(self) -> None:
        choices = (
            ("dataset", DATASETS),
            ("encoding", tuple(ENCODINGS)),
            ("update", ("step", "sequence")),
        )
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"bp-stdp: {name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if self.dataset == "xor" and (self.validate or self.folds):
            raise ValueError("bp-stdp: xor has four patterns: no validation, no folds")
        if self.dataset == "mnist" and self.folds:
            raise ValueError("bp-stdp: folds are for the data sets in the package, not for mnist")
        if self.shift and self.dataset not in samples.IMAGES:
            raise ValueError(f"bp-stdp: shift is for images, {self.dataset} has none")
        least_of = {"epochs": 0, "batch_size": 1, "time_interval": 1, "epsilon": 1, "shift": 0}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"bp-stdp: {name} must be at least {least}, got {getattr(self, name)}"
                )
        for name in ("lr", "scale"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(
                    f"bp-stdp: {name} must be positive and finite, got {getattr(self, name)}"
                )
        if not 0 <= self.beta <= 1000:
            raise ValueError(f"bp-stdp: beta must lie in [0, 1000] Hz, got {self.beta}")
        if len(self.std) not in (1, len(self.hidden) + 1):
            raise ValueError(
                f"bp-stdp: std must be one number, or one a layer, {len(self.hidden) + 1}, got {len(self.std)}"
            )
        if self.folds is not None and not 0 <= self.fold < self.folds:
            raise ValueError(f"bp-stdp: fold must lie in [0, {self.folds}), got {self.fold}")


def preset(dataset: str, hidden: tuple[int, ...] | None = None, **changes: Any) -> Settings:
    """The settings of docs/results.md for a data set and hidden layers, with ``changes``."""
    layers = {"xor": (20,), "iris": (30,), "digits": (300,), "mnist": (500,)}
    chosen: dict[str, Any] = {"hidden": hidden or layers.get(dataset, (100,))}
    if dataset == "xor":
        chosen |= {"std": (0.5,), "epochs": 100, "lr": 0.01, "cosine": False}
    elif dataset == "iris":
        chosen |= {"scale": 0.7, "std": (0.5,), "epochs": 60, "lr": 0.003}
    elif dataset == "digits":
        chosen |= {"std": (0.2,), "update": "sequence", "batch_size": 20, "lr": 1e-3}
    elif dataset == "mnist":
        chosen |= {"encoding": "bernoulli", "update": "sequence", "batch_size": 20, "lr": 4e-4}
        layers_more = len(chosen["hidden"]) - 1
        chosen |= (
            {"std": (0.1, *[0.2] * (layers_more + 1)), "shift": 1, "epochs": 16}
            if layers_more
            else {"std": (0.2, 0.3), "epochs": 8}
        )
    return Settings(**{"dataset": dataset, **chosen, **changes})


def load(
    settings: Settings,
    root: Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """The data of a run as intensities ``[N, F]`` in [0, 1], cut by :func:`snnfast.procedure.samples.load`.

    Features of Iris are divided by the largest value of all of them in the training part: their proportions stay, and
    proportions are what a network without bias can tell apart. XOR's are 0.2 for false and 1 for true, and every
    pattern is scored several times, since its spikes are random.

    Args:
        settings: names the data set and what is held out.
        root: folder of MNIST in torchvision's layout; the others need none.
        download: let torchvision download MNIST into ``root``.
        device: where the tensors go.

    Raises:
        ValueError, FileNotFoundError, ImportError: MNIST without ``root``, not there, or without torchvision.
    """
    parts = samples.load(settings, root, download=download)
    largest = parts.train[0].max()

    def part(values: Part) -> Part:
        x, labels = values
        if settings.dataset == "iris":
            x = (x / largest).clamp(max=1)
        elif settings.dataset == "xor":
            x = 0.2 + 0.8 * x
        return x.to(device), labels.to(device)

    train, held_out, test = part(parts.train), part(parts.held_out), part(parts.test)
    if settings.dataset == "xor":
        held_out = test = test[0].repeat(XOR_PRESENTATIONS, 1), test[1].repeat(XOR_PRESENTATIONS)
    return Data(train, held_out, test)


class Spiking(nn.Module):
    """Encoder and network: intensities ``[B, F]`` to output spikes ``[T, B, classes]``."""

    def __init__(self, encoder: nn.Module, network: TavanaeiAndMaida2017) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network

    def forward(self, x: Tensor) -> Tensor:
        """Presents the samples; nothing changes."""
        return self.network.present(self.encode(x), dt=SECOND).spikes

    def encode(self, x: Tensor) -> Tensor | Rates:
        """Spikes ``[T, B, F]``, or what the op draws them from."""
        if isinstance(self.encoder, Simple):
            return self.encoder.rates(x)
        return self.encoder(x)  # type: ignore[no-any-return]


def prepare(settings: Settings, inputs: int, device: torch.device | str = "cpu") -> Run:
    """The run at its beginning, for ``inputs`` features; sets the seed of torch's global generator."""
    torch.manual_seed(settings.seed)
    encoder = ENCODINGS[settings.encoding](
        settings.time_interval, settings.scale, dtype=torch.uint8
    )
    network = TavanaeiAndMaida2017(
        samples.CLASSES[settings.dataset],
        settings.hidden,
        in_neurons=inputs,
        std=settings.std if len(settings.std) > 1 else settings.std[0],
    )
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}
    return Run(Spiking(encoder, network).to(device), settings=plain)


def decide(spikes: Tensor) -> Tensor:
    """The class of the output with the most spikes, of ``[T, B, classes]``."""
    return spikes.sum(0).argmax(1)


def objective(settings: Settings) -> Loss:
    """:func:`snnfast.loss.bp_stdp_loss` of output spikes ``[T, B, classes]`` at desired times drawn anew."""

    def loss(spikes: Tensor, labels: Tensor) -> Tensor:
        return _loss(settings, spikes, labels, _desired(settings, labels))

    return loss


def learning(settings: Settings, run: Run) -> Step:
    """Presents samples, a batch at a time in one call, and changes the weights."""
    model = run.model
    assert isinstance(model, Spiking)

    def step(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        spikes = model.encode(x)
        desired = _desired(settings, labels)
        answer = model.network.learn(
            spikes,
            labels,
            desired,
            dt=SECOND,
            lr=learning_rate(settings, run.epoch),
            epsilon=settings.epsilon,
            update=settings.update,  # type: ignore[arg-type]
            batch=settings.batch_size,
        ).spikes
        return answer, _loss(settings, answer, labels, desired)

    return step


def learning_rate(settings: Settings, epoch: int) -> float:
    """In epoch 0, 1, ...: along half a cosine from ``settings.lr`` to 0, or ``settings.lr``."""
    if not settings.cosine:
        return settings.lr
    return settings.lr * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def _desired(settings: Settings, labels: Tensor) -> Tensor:
    return desired_times(len(labels), settings.beta, settings.time_interval).to(labels.device)


def _loss(settings: Settings, spikes: Tensor, labels: Tensor, desired: Tensor) -> Tensor:
    wanted = desired[..., None] & F.one_hot(labels, spikes.shape[2]).bool()
    return bp_stdp_loss(spikes, wanted, labels, settings.epsilon)


def train_on(settings: Settings, run: Run, parts: Data, **options: Any) -> Run:
    """Trains ``run`` to its end; ``options`` as of :func:`snnfast.train.fit`."""
    batch = settings.batch_size
    augment = partial(samples.moved, shift=settings.shift) if settings.shift else None
    return fit(
        run,
        parts.train,
        parts.held_out,
        epochs=settings.epochs,
        batch_size=max(1, SAMPLES_A_CALL // batch) * batch,
        loss=objective(settings),
        decide=decide,
        step=learning(settings, run),
        augment=augment,
        **options,
    )


@dataclass(frozen=True)
class Result:
    """A finished run, its accuracy on the test part in [0, 1], and where its files are."""

    run: Run
    test_accuracy: float
    out: Path

    def summary(self) -> str:
        """The result in two lines."""
        seconds = sum(row["seconds"] for row in self.run.history)
        cycles = converged(self.run)
        learned = f", learned after {cycles} cycles" if cycles is not None else ""
        return (
            f"test accuracy {100 * self.test_accuracy:.2f} % after {self.run.epoch} epochs{learned}, "
            f"{seconds:.1f} s\n{self.out}: {CHECKPOINT}, curves.png, raster.png"
        )


def converged(run: Run) -> int | None:
    """Cycles until XOR was learned: from the last of them on, no presentation of any pattern is answered wrong."""
    if run.settings["dataset"] != "xor" or not run.history:
        return None
    wrong = [epoch for epoch, row in enumerate(run.history, 1) if row["test_accuracy"] < 1]
    cycles = max(wrong, default=0) + 1
    return cycles if cycles <= len(run.history) else None


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
    """Trains, and keeps checkpoint, curves and a raster in ``out``; figures also live in a window.

    Args:
        settings: what decides the run.
        out: folder, made if missing.
        root: folder of MNIST.
        download: let torchvision download MNIST.
        device: where it runs.
        resume: go on from the checkpoint in ``out``, which must be of the same settings.
        progress: progress bar; see :func:`snnfast.train.fit`.

    Raises:
        FileExistsError: ``out`` holds a checkpoint and ``resume`` is False.
        FileNotFoundError, snnfast.train.CheckpointError: there is nothing to resume, or it does not fit.
        ValueError, ImportError: see :func:`load`.
    """
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise FileExistsError(
            f"{checkpoint} exists: resume it (--resume), or give another folder (--out)"
        )
    if resume:
        read_checkpoint(checkpoint)  # what is wrong with it is told before the data are read
    parts = load(settings, root, download=download, device=device)
    run = prepare(settings, parts.train[0].shape[1], device)
    if resume:
        run.load(checkpoint)
    figures = Figures(out, parts.test)
    train_on(
        settings,
        run,
        parts,
        checkpoint=checkpoint,
        progress=progress,
        after_epoch=figures.update,
    )
    figures.finish(run)
    score = evaluate(run.model, parts.test, loss=objective(settings), decide=decide)
    return Result(run, score.accuracy, out)


def trial(
    settings: Settings,
    *,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Trial:
    """Trains in silence, for :func:`snnfast.procedure.repeats.repeat`; arguments and errors as of :func:`load`."""
    parts = load(settings, root, download=download, device=device)
    run = prepare(settings, parts.train[0].shape[1], device)
    train_on(settings, run, parts, progress=False, echo=None)
    score = evaluate(run.model, parts.held_out, loss=objective(settings), decide=decide)
    return Trial(score.accuracy, converged(run))


class Figures:
    """Curves and raster of a run, as files in ``out`` and live where there is a display."""

    def __init__(self, out: Path, part: Part, every: float = 5.0) -> None:
        """The raster is drawn for the first sample of ``part``; ``every`` so many seconds at most."""
        self._curves = visual.Live(out / "curves.png")
        self._raster = visual.Live(out / "raster.png")
        self._part, self._every, self._drawn = part, every, -math.inf

    def update(self, run: Run) -> None:
        """Draws, unless it did so a moment ago: short epochs are not to wait for figures."""
        if time.monotonic() - self._drawn >= self._every:
            self.draw(run)

    def draw(self, run: Run) -> None:
        """Draws now."""
        if run.history:
            self._curves.update(curves(run))
        self._raster.update(raster(run.model, self._part))
        self._drawn = time.monotonic()

    def finish(self, run: Run) -> None:
        """Draws the last state and closes the windows; the files stay."""
        self.draw(run)
        self._curves.close()
        self._raster.close()


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
    return visual.curves(series, title=f"BP-STDP, {run.settings['dataset']}")


def raster(model: nn.Module, part: Part) -> Figure:
    """Spikes of the outputs for the first sample of ``part``."""
    x, labels = part
    with torch.random.fork_rng([] if x.device.type == "cpu" else [x.device]):
        spikes = model(x[:1])
    title = f"class {int(labels[0])}, seen as {int(decide(spikes))}: spikes of the outputs"
    return visual.raster(spikes, unit="ms", title=title)
