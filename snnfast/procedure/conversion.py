"""From a run of :mod:`snnfast.procedure.ann` to a spiking network, and a report of how well it follows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from tqdm import tqdm

import snnfast
from snnfast import visual
from snnfast.conversion import METHODS, ConversionReport, SpikingNetwork
from snnfast.conversion.report import STEPS, Comparison
from snnfast.procedure import ann
from snnfast.train import CheckpointError, read_checkpoint, same_settings, write_checkpoint

CHECKPOINT, RESULT, FIGURE = "snn.pt", "result.json", "report.png"
# Seconds between checkpoints while the images are scored.
SAVE_EVERY = 60.0


@dataclass(frozen=True)
class Settings:
    """What decides a conversion, and its result; see :func:`snnfast.convert`.

    Attributes:
        method: how thresholds are chosen: "max", "percentile", "spikenorm" or "qcfs".
        percentile: of the activations, for "percentile".
        per_channel: a threshold for every channel, for "max" and "percentile".
        scaling_factor: thresholds of "spikenorm" are this part of the largest current.
        calibration_steps: steps of the run of "spikenorm".
        levels: quantisation levels of "qcfs".
        epochs: passes over the training images to fine-tune for "qcfs".
        lr: learning rate of this fine-tuning.
        calibration_images: how many training images choose the thresholds, drawn at random; all if None.
        reset: "soft" or "hard".
        initial_membrane: membrane before the first step, as a part of the threshold.
        encoder: "constant" current, "poisson" spikes, or "saturating" ones, where values may lie beyond 1.
        steps: increasing numbers of steps after which to score.
        batch_size: images at once; "spikenorm" calibrates on one such batch.
        images: how many held-out images to score; all if None.
        validate: score the validation split, of a run that was not trained on it, instead of the test images.
        seed: of the choice of images, of fine-tuning, and of input spikes.
    """

    method: str = "percentile"
    percentile: float = 99.9
    per_channel: bool = False
    scaling_factor: float = 1.0
    calibration_steps: int = 100
    levels: int = 4
    epochs: int = 1
    lr: float = 1e-3
    calibration_images: int | None = None
    reset: str = "soft"
    initial_membrane: float = 0.5
    encoder: str = "constant"
    steps: tuple[int, ...] = STEPS
    batch_size: int = 100
    images: int | None = None
    validate: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"convert: method must be one of {', '.join(METHODS)}, got {self.method!r}"
            )
        if not (math.isfinite(self.percentile) and 0 < self.percentile <= 100):
            raise ValueError(f"convert: percentile must lie in (0, 100], got {self.percentile:g}")
        for name in ("calibration_steps", "levels", "batch_size", "calibration_images", "images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"convert: {name} must be at least 1, got {value}")
        steps = tuple(self.steps)
        if not steps or steps[0] < 1 or list(steps) != sorted(set(steps)):
            raise ValueError(f"convert: steps must be increasing numbers from 1 on, got {steps}")
        object.__setattr__(self, "steps", steps)


@dataclass(frozen=True)
class Result:
    """A finished conversion.

    Attributes:
        network: the spiking one.
        report: on the held-out images.
        split: "test" or "validation".
        seconds_calibrating: to choose the thresholds, fine-tuning included.
        seconds_scoring: both networks over all images, interruptions not counted.
        out: where the files are.
    """

    network: SpikingNetwork
    report: ConversionReport
    split: str
    seconds_calibrating: float
    seconds_scoring: float
    out: Path

    def summary(self) -> str:
        """The report's tables, and where the files are."""
        return (
            f"{self.split} split: {self.report.table()}\n\n"
            f"calibrated in {self.seconds_calibrating:.1f} s, scored in {self.seconds_scoring:.1f} s\n"
            f"{self.out}: {CHECKPOINT}, {RESULT}, {FIGURE}"
        )


def convert(
    settings: Settings,
    run: Path,
    out: Path,
    *,
    root: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    resume: bool = False,
    progress: bool | None = None,
) -> Result:
    """Converts the network of a run and scores it; keeps checkpoint, result and picture in ``out``.

    Args:
        settings: what decides the conversion.
        run: folder of a run of :func:`snnfast.procedure.ann.train`.
        out: folder, made if missing.
        root: folder of the data set.
        download: let torchvision download the data set.
        device: where it runs.
        resume: go on from the checkpoint in ``out``, which must be of the same settings and the same run.
        progress: progress bars; None: if standard error is a terminal.

    Raises:
        FileExistsError: ``out`` holds a checkpoint and ``resume`` is False.
        FileNotFoundError, snnfast.train.CheckpointError: there is no such run, nothing to resume, or it does not fit.
        TypeError, ValueError, ImportError: see :func:`snnfast.convert` and :func:`snnfast.procedure.images.load`.
    """
    path = out / CHECKPOINT
    if path.exists() and not resume:
        raise FileExistsError(
            f"{path} exists: resume it (--resume), or give another folder (--out)"
        )
    trained = ann.trained(run, device)
    if trained.epoch < trained.settings.epochs:
        raise ValueError(
            f"convert: the run in {run} is at epoch {trained.epoch} of {trained.settings.epochs}; finish it with "
            "--resume"
        )
    if settings.validate and not trained.settings.validate:
        raise ValueError(
            f"convert: the run in {run} was trained on the validation split; score the test images, or train with "
            "--validate"
        )
    images = ann.load(trained.settings, root, download=download, device=device)
    held_out = images.held_out if settings.validate else images.test
    identity = {**asdict(settings), "run": {**asdict(trained.settings), "epoch": trained.epoch}}
    seconds = {"calibrating": 0.0, "scoring": 0.0}
    if resume:
        network, checkpoint = _stored(path, settings, trained.model)
        same_settings(path, checkpoint["settings"], identity)
        seconds = checkpoint["seconds"]
        comparison = Comparison(trained.model, network, settings.steps)
        comparison.load_state_dict(checkpoint["comparison"])
    else:
        start = time.perf_counter()
        train = ann.normalise(trained.settings.dataset, images.train[0]), images.train[1]
        network = calibrated(settings, trained.model, train, progress=progress)
        seconds["calibrating"] = time.perf_counter() - start
        comparison = Comparison(trained.model, network, settings.steps)

    def save() -> None:
        content = {"settings": identity, "seconds": seconds, "comparison": comparison.state_dict()}
        own = {k: v for k, v in network.state_dict().items() if not k.startswith("spiking.")}
        write_checkpoint(
            path, {**content, "thresholds": [t.cpu() for t in network.thresholds], "weights": own}
        )

    save()
    saved = time.perf_counter()
    for batch in _batches(comparison, held_out, settings, progress):
        start = time.perf_counter()
        comparison.add(*batch)
        seconds["scoring"] += time.perf_counter() - start
        if time.perf_counter() - saved > SAVE_EVERY:
            save()
            saved = time.perf_counter()
    save()
    report = comparison.report()
    split = "validation" if settings.validate else "test"
    visual.save(report.figure(), out / FIGURE)
    numbers = {
        **{"settings": identity, "split": split, "report": report.as_dict()},
        **{f"seconds_{name}": round(value, 3) for name, value in seconds.items()},
        "threads": torch.get_num_threads(),
    }
    (out / RESULT).write_text(json.dumps(numbers, indent=2) + "\n")
    return Result(network, report, split, seconds["calibrating"], seconds["scoring"], out)


def calibrated(
    settings: Settings,
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    *,
    progress: bool | None = None,
) -> SpikingNetwork:
    """The spiking network of ``model``, thresholds chosen on training images and labels."""
    images, labels = train
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    if settings.calibration_images is not None:
        chosen = torch.randperm(len(images), generator=generator)[: settings.calibration_images]
        images, labels = images[chosen.to(images.device)], labels[chosen.to(labels.device)]
    pairs = TensorDataset(images, labels)
    order = RandomSampler(pairs, generator=generator)
    # Whole batches are indexed at once.
    sampler = BatchSampler(order, settings.batch_size, drop_last=False)
    return snnfast.convert(
        model,
        DataLoader(pairs, sampler=sampler, batch_size=None),
        method=settings.method,
        percentile=settings.percentile,
        per_channel=settings.per_channel,
        num_steps=settings.calibration_steps,
        scaling_factor=settings.scaling_factor,
        levels=settings.levels,
        epochs=settings.epochs,
        lr=settings.lr,
        reset=settings.reset,
        initial_membrane=settings.initial_membrane,
        encoding=settings.encoder,
        progress=progress,
    )


def converted(out: Path, model: nn.Module) -> SpikingNetwork:
    """The spiking network that :func:`convert` kept in ``out``; ``model`` is the ReLU network it was made of.

    Raises:
        FileNotFoundError, snnfast.train.CheckpointError: there is no checkpoint, or one of something else.
    """
    return _stored(out / CHECKPOINT, None, model)[0]


def _stored(
    path: Path, settings: Settings | None, model: nn.Module
) -> tuple[SpikingNetwork, dict[str, Any]]:
    checkpoint = read_checkpoint(path)
    try:
        if settings is None:
            settings = Settings(**{k: v for k, v in checkpoint["settings"].items() if k != "run"})
        network = SpikingNetwork(
            model,
            reset=settings.reset,
            initial_membrane=settings.initial_membrane,
            encoding=settings.encoder,
        )
        # Names of neurons differ after fine-tuning, their order does not.
        found = network.load_state_dict(checkpoint["weights"], strict=False)
        if found.unexpected_keys or any(not k.startswith("spiking.") for k in found.missing_keys):
            raise ValueError("its weights are of another network")
        network.update_threshold(checkpoint["thresholds"])
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not of this conversion: {error}") from error
    return network, checkpoint


def _batches(
    comparison: Comparison,
    held_out: tuple[Tensor, Tensor],
    settings: Settings,
    progress: bool | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """What is left to score, each batch with its own seed, so that a resumed run sees the same input spikes."""
    images, labels = (part[: settings.images] for part in held_out)
    disable = None if progress is None else not progress
    size = settings.batch_size
    with tqdm(
        total=len(images), initial=comparison.images, desc="score", unit="img", disable=disable,
        leave=False, dynamic_ncols=True,
    ) as bar:  # fmt: skip
        for first in range(comparison.images, len(images), size):
            torch.manual_seed((settings.seed << 32) + first)
            yield images[first : first + size], labels[first : first + size]
            bar.update(min(size, len(images) - first))
            bar.set_postfix_str(
                f"ANN {_percent(comparison.right_ann, comparison)}, "
                f"{settings.steps[-1]} steps {_percent(comparison.right[-1], comparison)}",
                refresh=False,
            )


def _percent(right: int, comparison: Comparison) -> str:
    return f"{100 * right / comparison.images:.2f} %"
