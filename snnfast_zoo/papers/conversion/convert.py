"""Conversion of a run of a ReLU network to a spiking network, with a report of its accuracy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from snnfast import conversion
from snnfast.backend.devices import present
from snnfast.conversion import METHODS, ConversionReport, SpikingNetwork
from snnfast.conversion.convert import check_option
from snnfast.conversion.network import increasing
from snnfast.conversion.report import STEPS, Comparison
from snnfast.monitoring import Activity, Monitor
from snnfast_zoo.train import Run, images
from snnfast_zoo.train.checkpoint import CheckpointError, read_checkpoint, same_settings, write_checkpoint
from snnfast_zoo.train.folder import locked, refuse_to_replace, write_json
from snnfast_zoo.train.place import WATCHED, Data
from snnfast_zoo.train.progress import progress_bar
from snnfast_zoo.train.result import RESULT, files
from snnfast_zoo.train.score import Part, largest
from snnfast_zoo.train.settings import Options, option
from snnfast_zoo.train.trained import Trained, restored

from .train import AnnSettings, diehl2015

CHECKPOINT, FIGURE, KIND = "snn.pt", "report.png", "conversion"
# Seconds between checkpoints while the images are scored.
SAVE_EVERY = 60.0
# Settings of some methods only, and their names in snnfast.convert.
METHOD_SETTINGS = {name: name for name in ("percentile", "per_channel", "scaling_factor", "levels", "epochs", "lr")} | {
    "calibration_steps": "num_steps"
}
ANN = diehl2015  # reads the runs of both procedures


@dataclass(frozen=True, kw_only=True)
class ConversionSettings(Options):
    """Settings of a conversion; see :func:`snnfast.convert`."""

    name = "convert"

    method: str = option(
        "percentile", "How thresholds are chosen: max, percentile, spikenorm or qcfs.", choices=METHODS
    )
    percentile: float | None = option(
        None,
        "Which percentile of the activations (percentile; default 99.9) or currents (spikenorm; default 100).",
        above=0,
        most=100,
    )
    per_channel: bool = option(False, "One threshold for each channel (max, percentile, spikenorm).")
    steps: tuple[int, ...] = option(STEPS, "Score after this many steps; repeat for more, increasing.", least=1)
    warm_up: int = option(0, "How many steps at the beginning the scores leave out; less than all of --steps.", least=0)
    reset: str = option("soft", "soft (subtracts the threshold) or hard.")
    encoder: str = option("constant", "constant current, poisson spikes, or saturating ones (values beyond 1).")
    initial_membrane: float = option(0.5, "Membrane before the first step, as a share of the threshold.")
    scaling_factor: float | None = option(None, "spikenorm: thresholds, as a share of the largest current (default 1).")
    calibration_steps: int | None = option(None, "spikenorm: steps of its run (default 100).", least=1)
    calibration_images: int | None = option(
        None, "How many training images choose the thresholds, drawn at random; default: all.", least=1
    )
    levels: int | None = option(None, "qcfs: levels to quantise to (default 4).", least=1)
    epochs: int | None = option(None, "qcfs: epochs of fine-tuning (default 1).")
    lr: float | None = option(None, "qcfs: learning rate of the fine-tuning (default 0.001).")
    batch_size: int = option(100, "Images in each batch; spikenorm calibrates on one batch.", least=1)
    images: int | None = option(None, "Score this many held-out images, evenly spaced; default: all.", least=1)
    seed: int = option(0, "Seed of all random numbers.", least=-(2**31), most=2**32 - 1)
    validate: bool = option(False, "Score the validation split of a run with --validate.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, argument in METHOD_SETTINGS.items():
            check_option(self.method, argument, getattr(self, name), name)
        increasing("convert", self.steps, self.warm_up)


@dataclass(frozen=True)
class ConversionResult:
    """A finished conversion.

    Attributes:
        network: the spiking network.
        report: report on the held-out images.
        split: the part that was scored, "test" or "validation".
        seconds_calibrating: time to choose the thresholds, fine-tuning included.
        seconds_scoring: time to run both networks over all images, without interruptions.
        out: folder of the files.
        activity: activity of the network for at most 500 held-out images, evenly spaced; None unless asked for.
    """

    network: SpikingNetwork
    report: ConversionReport
    split: str
    seconds_calibrating: float
    seconds_scoring: float
    out: Path
    activity: Activity | None = None

    def summary(self) -> str:
        """Return the tables of the report, and the files in ``out``."""
        watched = "" if self.activity is None else f"{self.activity.table()}\n\n"
        return (
            f"{self.split} split: {self.report.table()}\n\n{watched}"
            f"calibrated in {self.seconds_calibrating:.1f} s, scored in {self.seconds_scoring:.1f} s\n"
            f"{self.out}: {', '.join(files(self.out))}\n"
            f"use it: snnfast infer {self.out} IMAGES; in Python snnfast.load({str(self.out)!r})"
        )


def convert(
    run: str | Path,
    *,
    out: str | Path | None = None,
    root: str | Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    resume: bool = False,
    monitor: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> ConversionResult:
    """Convert the network of a run and score it; save checkpoint, result and picture in ``out``.

    Args:
        run: folder of a run of ``snnfast train diehl2015`` or ``vgg16``, or of these procedures in Python.
        out: folder, made if missing; None: a folder in ``run``, named after the method.
        root: folder of the data set.
        download: let torchvision download the data set.
        device: device of the networks and the data.
        resume: resume from the checkpoint in ``out``, which must have the same settings and the same run.
        monitor: record the activity of the spiking network; see :func:`snnfast.monitor`. Its figures are
            ``monitor_*.png``.
        progress: show a progress bar; None: only if standard error is a terminal.
        **options: any of the :class:`ConversionSettings` of the conversion: ``method``, ``steps``, ...

    Raises:
        FileExistsError: ``out`` holds a checkpoint or a result, and ``resume`` is False.
        FileNotFoundError, snnfast.checkpoint.CheckpointError: there is no such run, nothing to resume, or the
            checkpoint does not fit.
        TypeError, ValueError, ImportError: see :func:`snnfast.convert` and ``snnfast_zoo.train.images.load``.
    """
    from snnfast_zoo import visual

    ConversionSettings.check_names("convert", options)
    settings, run, device = ConversionSettings(**options), Path(run).expanduser(), present(device, "convert: device")
    out = run / settings.method if out is None else Path(out).expanduser()
    with locked(out):
        path = out / CHECKPOINT
        if not resume:
            refuse_to_replace(path, out / RESULT)
        trained, finished, data = _finished(settings, run, root, download, device)
        model = finished.model.eval()
        identity = {**settings.plain(), "run": {**trained.plain(), "epoch": finished.epoch}}
        seconds = {"calibrating": 0.0, "scoring": 0.0}
        if resume:
            checkpoint = read_checkpoint(path, KIND)
            same_settings(path, checkpoint["settings"], identity)
            network = _stored(path, checkpoint, settings, model)
            seconds = checkpoint["seconds"]
            comparison = Comparison(model, network, settings.steps, settings.warm_up)
            comparison.load_state_dict(checkpoint["comparison"])
        else:
            start = time.perf_counter()
            train = images.normalize(trained.dataset, data.train[0]), data.train[1]
            network = calibrated(settings, model, train, progress=progress)
            seconds["calibrating"] = time.perf_counter() - start
            comparison = Comparison(model, network, settings.steps, settings.warm_up)

        def save() -> None:
            weights = {k: v for k, v in network.state_dict().items() if not k.startswith("spiking.")}
            content = {
                "kind": KIND,
                "settings": identity,
                "data": finished.data,
                "seconds": seconds,
                "comparison": comparison.state_dict(),
                "thresholds": [t.cpu() for t in network.thresholds],
                "weights": weights,
            }
            write_checkpoint(path, content)

        save()
        saved = time.perf_counter()
        for batch in _batches(comparison, data.held_out, settings, progress):
            start = time.perf_counter()
            comparison.add(*batch)
            seconds["scoring"] += time.perf_counter() - start
            if time.perf_counter() - saved > SAVE_EVERY:
                save()
                saved = time.perf_counter()
        save()
        report = comparison.report()
        visual.save(report.figure(), out / FIGURE)
        numbers = {
            **{"settings": identity, "split": data.split, "report": report.as_dict()},
            **{f"seconds_{name}": round(value, 3) for name, value in seconds.items()},
            "threads": torch.get_num_threads(),
        }
        activity = None
        if monitor:
            few = spread(data.held_out, min(WATCHED, settings.images or WATCHED))[0]
            watching = watch(network, few, settings)
            activity = watching.activity()
            numbers["activity"] = activity.as_dict()
            for name, figure in watching.figures().items():
                visual.save(figure, out / f"monitor_{name}.png")
        write_json(out / RESULT, numbers)
        return ConversionResult(
            network,
            report,
            data.split,
            seconds_calibrating=seconds["calibrating"],
            seconds_scoring=seconds["scoring"],
            out=out,
            activity=activity,
        )


def _finished(
    settings: ConversionSettings, run: Path, root: str | Path | None, download: bool, device: torch.device | str
) -> tuple[AnnSettings, Run, Data]:
    """Return settings, run and data of the ReLU network; the held-out part is the images to score."""
    trained = ANN.stored(run)
    if settings.validate and not trained.validate:
        raise ValueError(
            f"convert: the run in {run} was trained on the validation split; score the test images, or train anew "
            "with validation"
        )
    _, finished, data = ANN.reopen(run, root=root, download=download, device=device)
    if finished.epoch < trained.epochs:
        raise ValueError(f"convert: the run in {run} is at epoch {finished.epoch} of {trained.epochs}; resume it")
    if trained.validate and not settings.validate:
        pixels, labels = images.part(trained.dataset, "test", root, download, device)
        data = Data(data.train, (images.normalize(trained.dataset, pixels), labels), "test")
    return trained, finished, data


def watch(network: SpikingNetwork, images: Tensor, settings: ConversionSettings) -> Monitor:
    """Return a monitor that recorded all time steps of the network for ``images``."""
    torch.manual_seed(settings.seed)
    with Monitor(network) as watching:
        for batch in images.split(settings.batch_size):
            network(batch, settings.steps[-1])
    return watching


def calibrated(
    settings: ConversionSettings, model: nn.Module, train: Part, *, progress: bool | None = None
) -> SpikingNetwork:
    """Convert ``model``, with thresholds chosen on training images and labels."""
    images, labels = train
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    if settings.calibration_images is not None:
        chosen = torch.randperm(len(images), generator=generator)[: settings.calibration_images]
        images, labels = images[chosen.to(images.device)], labels[chosen.to(labels.device)]
    pairs = TensorDataset(images, labels)
    order = RandomSampler(pairs, generator=generator)
    # The sampler yields batches, so that each batch is indexed at once.
    sampler = BatchSampler(order, settings.batch_size, drop_last=False)
    return conversion.convert(
        model,
        DataLoader(pairs, sampler=sampler, batch_size=None),
        method=settings.method,
        **{argument: getattr(settings, name) for name, argument in METHOD_SETTINGS.items()},
        reset=settings.reset,
        initial_membrane=settings.initial_membrane,
        encoding=settings.encoder,
        progress=progress,
    )


def converted(out: Path, model: nn.Module) -> SpikingNetwork:
    """Load the spiking network that :func:`convert` saved in ``out``; ``model`` is its ReLU network.

    Raises:
        FileNotFoundError, snnfast.checkpoint.CheckpointError: there is no checkpoint, or it is of another kind.
    """
    path = out / CHECKPOINT
    checkpoint = read_checkpoint(path, KIND)
    try:
        stored = checkpoint["settings"]
        settings = ConversionSettings(**{name: stored[name] for name in ("reset", "initial_membrane", "encoder")})
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not of a conversion: {error}") from error
    return _stored(path, checkpoint, settings, model)


def load_converted(folder: Path, device: torch.device) -> Trained:
    """Load the spiking network that :func:`convert` saved in ``folder``, with the preprocessing of its ReLU network.

    Raises:
        snnfast.checkpoint.CheckpointError: the checkpoint is damaged, of another kind, or of an earlier version.
    """
    path = folder / CHECKPOINT
    checkpoint = read_checkpoint(path, KIND)
    if "data" not in checkpoint:
        raise CheckpointError(
            f"{path} does not say what its samples look like: it is of an earlier version; run snnfast convert again"
        )
    stored = dict(checkpoint["settings"])
    run = {name: value for name, value in stored.pop("run").items() if name != "epoch"}
    settings = ConversionSettings(**stored)

    def answers(run: AnnSettings, network: nn.Module, x: Tensor, folder: Path) -> Tensor:
        torch.manual_seed(settings.seed)
        return largest(network(x, settings.steps[-1], warm_up=settings.warm_up))

    procedure = replace(ANN, answers=answers)
    complete = partial(_stored, path, checkpoint, settings)
    return restored(procedure, AnnSettings(**run), checkpoint["data"], folder, device, complete)


def _stored(path: Path, checkpoint: dict[str, Any], settings: ConversionSettings, model: nn.Module) -> SpikingNetwork:
    try:
        network = SpikingNetwork(
            model, reset=settings.reset, initial_membrane=settings.initial_membrane, encoding=settings.encoder
        )
        # Names of neurons differ after fine-tuning, their order does not.
        found = network.load_state_dict(checkpoint["weights"], strict=False)
        if found.unexpected_keys or any(not k.startswith("spiking.") for k in found.missing_keys):
            raise ValueError("its weights are of another network")
        network.update_threshold(checkpoint["thresholds"])
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not of this conversion: {error}") from error
    return network


def _batches(
    comparison: Comparison, held_out: Part, settings: ConversionSettings, progress: bool | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the remaining batches to score, each with its seed, so that a resumed run has the same input spikes."""
    images, labels = held_out if settings.images is None else spread(held_out, settings.images)
    size = settings.batch_size
    with progress_bar("score", len(images), done=comparison.images, progress=progress) as bar:
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


def spread(part: Part, n: int) -> Part:
    """Return ``n`` images and labels, evenly spaced, because the first images of a folder are all of one class."""
    images, labels = part
    n = min(n, len(images))
    chosen = torch.arange(n, device=images.device) * len(images) // n
    return images[chosen], labels[chosen]
