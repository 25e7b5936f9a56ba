"""SpikeProp (Bohte et al. 2002): training spike times, on XOR, Iris, Wisconsin breast cancer, digits and MNIST."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import loss
from snnfast.encoder import Latency, Population
from snnfast.model import Bohte2002
from snnfast.procedure import samples
from snnfast.procedure.repeats import Trial
from snnfast.procedure.samples import CLASSES, IMAGES, Data, Part
from snnfast.train import Decide, Loss, Run, evaluate, fit, read_checkpoint

CHECKPOINT = "checkpoint.pt"
CODES = ("population", "latency")
LOSSES = ("cross-entropy", "squared-error")


@dataclass(frozen=True)
class Settings:
    """What decides the course of a run, and its result. Times in milliseconds.

    Attributes:
        dataset: "xor", "iris", "cancer", "digits" or "mnist".
        code: "population" (:class:`snnfast.encoder.Population`) or "latency" (:class:`snnfast.encoder.Latency`).
        fields: neurons a feature of the population code.
        beta: the larger, the narrower the fields of the population code; 1.5 in the paper.
        span: latest input spike.
        threshold: values up to it do not fire in the latency code; None lets all fire.
        bias: inputs that always fire at 0.
        hidden: sizes of the hidden layers.
        terminals: synapses of a connection, with delays 1 ... terminals; one alone has no delay.
        tau: time constant of the potentials.
        t_max: end of the observation.
        low: initial weights are drawn from U(low, 1) and then scaled, neuron by neuron, so that
        fire_at: the neurons of the first layer fire at the first of these times on average over the training data and
            the outputs at the second, layers between them in between; see :func:`snnfast.nn.calibrate`.
        slope_min: least slope in the gradient, in units of threshold / tau; see :func:`snnfast.ops.spikeprop`.
        virtual: scale of the times of silent outputs; see :func:`snnfast.loss.virtual_times`.
        loss: "cross-entropy" of the first spike, or "squared-error" to target times.
        targets: times wanted of the class's output and of the others, for the squared error. The only output of XOR
            is to take the first for true and the second for false.
        copies: of each training sample, that together are the training part.
        noise: standard deviation of noise on the features of every copy, as a share of the feature's range.
        jitter: standard deviation of noise on the input times, drawn anew for each sample and epoch.
        shift: pixels by which an image is moved at most, drawn anew for each image and epoch.
        epochs: passes over the training data.
        batch_size: samples a step.
        lr: Adam's learning rate in the first epoch.
        cosine: take the learning rate to 0 over the epochs along a cosine; otherwise it stays.
        folds: cross-validation: the data are cut into so many parts; None for the data set's own split.
        fold: the part that is held out.
        split_seed: seed of the cut into folds.
        seed: seed of weights, order, noise and jitter.
        validate: train without the validation part and watch that while training, not the test part.
    """

    dataset: str = "iris"
    code: str = "population"
    fields: int = 12
    beta: float = 1.5
    span: float = 10.0
    threshold: float | None = None
    bias: int = 1
    hidden: tuple[int, ...] = (10,)
    terminals: int = 16
    tau: float = 7.0
    t_max: float = 40.0
    low: float = -0.5
    fire_at: tuple[float, float] = (9.0, 14.0)
    slope_min: float = 0.05
    virtual: float = 4.0
    loss: str = "cross-entropy"
    targets: tuple[float, float] = (12.0, 16.0)
    copies: int = 1
    noise: float = 0.0
    jitter: float = 0.0
    shift: int = 0
    epochs: int = 30
    batch_size: int = 20
    lr: float = 0.01
    cosine: bool = True
    folds: int | None = None
    fold: int = 0
    split_seed: int = 0
    seed: int = 0
    validate: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("dataset", tuple(CLASSES)), ("code", CODES), ("loss", LOSSES)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"spikeprop: {name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if self.code == "population" and self.dataset not in ("iris", "cancer"):
            raise ValueError(
                f"spikeprop: the population code is for iris and cancer, {self.dataset} takes latency"
            )
        if self.dataset == "xor" and (self.validate or self.folds or self.loss != "squared-error"):
            raise ValueError(
                "spikeprop: xor has four patterns and one output: no validation, no folds, loss squared-error"
            )
        if self.dataset == "mnist" and self.folds:
            raise ValueError("spikeprop: folds are for the data sets in the package, not for mnist")
        if self.shift and self.dataset not in IMAGES:
            raise ValueError(f"spikeprop: shift is for images, {self.dataset} has none")
        least_of = {
            "epochs": 0,
            "batch_size": 1,
            "terminals": 1,
            "bias": 0,
            "shift": 0,
            "copies": 1,
        }
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"spikeprop: {name} must be at least {least}, got {getattr(self, name)}"
                )
        for name in ("lr", "tau", "t_max", "span", "virtual", "beta"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(
                    f"spikeprop: {name} must be positive and finite, got {getattr(self, name)}"
                )
        for name in ("noise", "jitter"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(
                    f"spikeprop: {name} must be finite and not negative, got {getattr(self, name)}"
                )
        if self.folds is not None and not 0 <= self.fold < self.folds:
            raise ValueError(f"spikeprop: fold must lie in [0, {self.folds}), got {self.fold}")


def preset(dataset: str, code: str | None = None, **changes: Any) -> Settings:
    """The settings of docs/results.md for a data set and a code, with ``changes``."""
    code = code or ("population" if dataset in ("iris", "cancer") else "latency")
    images: dict[str, Any] = {"terminals": 1, "tau": 60.0, "t_max": 30.0, "fire_at": (6.0, 9.0)}
    images |= {"low": -0.6, "threshold": 0.0, "batch_size": 32}
    chosen: dict[str, Any] = {}
    if dataset == "xor":
        chosen |= {
            "fire_at": (9.0, 13.0),
            "span": 6.0,
            "hidden": (5,),
            "low": 0.0,
            "loss": "squared-error",
        }
        chosen |= {"targets": (10.0, 16.0), "epochs": 100, "batch_size": 4, "lr": 0.05}
        chosen |= {"cosine": False}
    elif dataset == "iris":
        chosen |= {"loss": "squared-error"}
        chosen |= (
            {"bias": 2, "tau": 30.0, "beta": 0.4, "copies": 5, "noise": 0.1, "epochs": 6}
            if code == "population"
            else {"epochs": 60, "lr": 0.02}
        )
    elif dataset == "cancer":
        chosen |= {"fields": 7, "hidden": (15,), "terminals": 8, "epochs": 10}
        chosen |= {"batch_size": 32, "lr": 0.003, "loss": "squared-error", "tau": 30.0}
    elif dataset == "digits":
        chosen |= images | {"hidden": (400,), "jitter": 2.0, "slope_min": 18.0, "epochs": 80}
    elif dataset == "mnist":
        chosen |= images | {"hidden": (400,), "span": 8.0, "threshold": 0.3, "epochs": 12}
        chosen |= {"lr": 0.002, "shift": 1}
    return Settings(**{"dataset": dataset, "code": code, **chosen, **changes})


def load(
    settings: Settings,
    root: Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """The data of a run as spike times, in the parts of :func:`snnfast.procedure.samples.load`.

    The code is fitted to the training part alone, before its noise.

    Args:
        settings: names the data set, the code, and what is held out.
        root: folder of MNIST in torchvision's layout; the others need none.
        download: let torchvision download MNIST into ``root``.
        device: where the tensors go.

    Raises:
        ValueError, FileNotFoundError, ImportError: MNIST without ``root``, not there, or without torchvision.
    """
    parts = samples.load(settings, root, download=download)
    encode = code(settings, parts.train[0])
    copies = _noisy(settings, parts.train[0]), parts.train[1].repeat(settings.copies)

    def part(values: Part) -> Part:
        return encode(values[0]).to(device), values[1].to(device)

    return Data(part(copies), part(parts.held_out), part(parts.test))


def _noisy(settings: Settings, x: Tensor) -> Tensor:
    """The copies ``[copies N, F]`` of the training features ``[N, F]``, the same for every run of a seed."""
    copies = x.repeat(settings.copies, 1)
    if not settings.noise:
        return copies
    generator = torch.Generator().manual_seed(settings.seed)
    spread = settings.noise * (x.amax(0) - x.amin(0))
    return copies + spread * torch.randn(copies.shape, generator=generator)


def code(settings: Settings, train: Tensor) -> torch.nn.Module:
    """From features ``[N, F]`` to input spike times ``[N, I]``, fitted to the training part."""
    low, high = train.amin(0), train.amax(0)
    if settings.code == "population":
        encoder = Population(
            settings.fields, low, high, settings.span, settings.span, beta=settings.beta
        )
        return _Code(encoder, settings.bias)
    latency = Latency(settings.span, threshold=settings.threshold)
    if settings.dataset in IMAGES:
        return _Code(latency, settings.bias)
    return _Code(latency, settings.bias, low, high)


class _Code(torch.nn.Module):
    """An encoder, after scaling to [0, 1] if there are bounds, and inputs that always fire at 0."""

    def __init__(
        self, encoder: torch.nn.Module, bias: int, low: Any = None, high: Any = None
    ) -> None:
        super().__init__()
        self.encoder, self.bias, self.low, self.high = encoder, bias, low, high

    def forward(self, x: Tensor) -> Tensor:
        if self.low is not None:
            x = ((x - self.low) / (self.high - self.low)).clamp(0, 1)
        return F.pad(self.encoder(x).flatten(1), (0, self.bias))


def prepare(settings: Settings, train: Part) -> Run:
    """Network, optimizer and schedule of a run at its beginning; sets the seed of torch's global generator.

    The network is calibrated on the first 1,000 samples of ``train``, and is on their device.
    """
    torch.manual_seed(settings.seed)
    times = train[0]
    outputs = 1 if settings.dataset == "xor" else CLASSES[settings.dataset]
    model = Bohte2002(
        times.shape[1],
        settings.hidden,
        outputs,
        settings.terminals if settings.terminals > 1 else [0.0],
        time_constant=settings.tau,
        t_max=settings.t_max,
        virtual=settings.virtual,
        slope_min=settings.slope_min,
    )
    model.reset_parameters(settings.low, 1.0)
    model.to(times.device)
    model.calibrate(times[:1000], torch.linspace(*settings.fire_at, len(model.layers)).tolist())
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
    scheduler = None
    if settings.cosine:
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(settings.epochs, 1))
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}
    return Run(model, optimizer, scheduler, settings=plain)


def objective(settings: Settings) -> Loss:
    """The loss of a run: output times ``[B, O]`` and labels ``[B]`` to a scalar."""
    if settings.loss == "cross-entropy":
        return partial(loss.first_spike_cross_entropy, t_max=settings.t_max)
    early, late = settings.targets

    def squared_error(t: Tensor, labels: Tensor) -> Tensor:
        wanted = labels[:, None] if t.shape[1] == 1 else F.one_hot(labels, t.shape[1])
        return loss.spike_time_squared_error(t, late + (early - late) * wanted.to(t))

    return squared_error


def decision(settings: Settings) -> Decide:
    """The label of output times ``[B, O]``: the first spike; for XOR the nearer target. No spike is no label: -1."""
    if settings.dataset != "xor":
        return lambda t: loss.first_spike(t, settings.t_max)
    middle = sum(settings.targets) / 2
    return lambda t: torch.where(t[:, 0] > settings.t_max, -1, (t[:, 0] < middle).long())


def augmentation(settings: Settings) -> Callable[[Tensor], Tensor] | None:
    """What changes the input times ``[B, I]`` of a batch in training; None for nothing.

    Drawn on the CPU, so that every device sees the same.
    """
    if not (settings.shift or settings.jitter):
        return None

    def augment(t: Tensor) -> Tensor:
        if settings.shift:
            pixels = t[:, : t.shape[1] - settings.bias]
            moved = samples.moved(pixels, settings.shift, empty=math.inf)
            t = torch.cat([moved, t[:, pixels.shape[1] :]], 1)
        if settings.jitter:  # nothing comes before 0, silent stays silent
            t = (t + (torch.randn(t.shape) * settings.jitter).to(t)).clamp(min=0)
        return t

    return augment


def train_on(
    settings: Settings,
    run: Run,
    parts: Data,
    **options: Any,
) -> Run:
    """Trains ``run`` to its end; ``options`` as of :func:`snnfast.train.fit`."""
    return fit(
        run,
        parts.train,
        parts.held_out,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        loss=objective(settings),
        decide=decision(settings),
        augment=augmentation(settings),
        **options,
    )


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        run: network and history.
        test_accuracy: in [0, 1].
        clipped: by layer, the share of spikes whose slope is bounded in the gradient, over up to 1,000 test samples.
        out: where its files are.
    """

    run: Run
    test_accuracy: float
    clipped: list[float]
    out: Path

    def summary(self) -> str:
        """The result in some lines."""
        seconds = sum(row["seconds"] for row in self.run.history)
        cycles = converged(self.run)
        learned = f", learned after {cycles} cycles" if cycles is not None else ""
        clipped = ", ".join(f"{100 * share:.1f} %" for share in self.clipped)
        return (
            f"test accuracy {100 * self.test_accuracy:.2f} % after {self.run.epoch} epochs{learned}, "
            f"{seconds:.1f} s\n"
            f"slopes below slope_min: {clipped} of the spikes, by layer\n"
            f"{self.out}: {CHECKPOINT}, curves.png, spikes.png, potentials.png"
        )


def converged(run: Run) -> int | None:
    """Cycles until XOR was learned: the first with a sum of squared errors below 1 ms^2; None if there is none."""
    if run.settings["dataset"] != "xor":
        return None
    # The loss is half the mean over the four patterns.
    learned = (i + 1 for i, row in enumerate(run.history) if 8 * row["loss"] < 1)
    return next(learned, None)


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
    """Trains, and keeps checkpoint and figures in ``out``; figures also live in a window.

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
    from .spikeprop_figures import Figures

    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise FileExistsError(
            f"{checkpoint} exists: resume it (--resume), or give another folder (--out)"
        )
    if resume:
        read_checkpoint(checkpoint)  # what is wrong with it is told before the data are read
    parts = load(settings, root, download=download, device=device)
    run = prepare(settings, parts.train)
    figures = Figures(out, run, parts.test)
    if resume:
        run.load(checkpoint)
    train_on(
        settings,
        run,
        parts,
        checkpoint=checkpoint,
        progress=progress,
        after_epoch=figures.update,
    )
    figures.finish(run)
    score = evaluate(run.model, parts.test, loss=objective(settings), decide=decision(settings))
    return Result(run, score.accuracy, clipped_shares(run, parts.test[0]), out)


def trial(
    settings: Settings,
    *,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Trial:
    """Trains in silence, for :func:`snnfast.procedure.repeats.repeat`; arguments and errors as of :func:`load`."""
    parts = load(settings, root, download=download, device=device)
    run = prepare(settings, parts.train)
    train_on(settings, run, parts, progress=False, echo=None)
    score = evaluate(run.model, parts.held_out, loss=objective(settings), decide=decision(settings))
    return Trial(score.accuracy, converged(run))


def clipped_shares(run: Run, times: Tensor) -> list[float]:
    """By layer :meth:`snnfast.nn.SpikeProp.clipped_share` for the first 1,000 of the input times ``[N, I]``."""
    model = run.model
    assert isinstance(model, Bohte2002)
    with torch.no_grad():
        heard = model.spike_times(times[:1000])
    return [layer.clipped_share(t) for layer, t in zip(model.layers, heard)]  # type: ignore[operator]
