"""``snnfast train diehl2015``, ``train vgg16`` and ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from snnfast.cli.options import (
    Dataset,
    Device,
    Download,
    Resume,
    Root,
    Seed,
    Threads,
    Validate,
    chosen_device,
    needs_root,
    plain_errors,
    tell_interruption,
)

Epochs = Annotated[int | None, typer.Option(help="Epochs; also the length of the schedule.")]
BatchSize = Annotated[int | None, typer.Option(help="Images a step.")]
Optimizer = Annotated[str | None, typer.Option(help="adam or sgd.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Largest learning rate.")]
Schedule = Annotated[str | None, typer.Option(help="Of the learning rate: cosine or one-cycle.")]
Precision = Annotated[
    str | None, typer.Option(help="float32, or bfloat16 for products and convolutions.")
]
Dropout = Annotated[float | None, typer.Option(help="Probability of dropout.")]
Shift = Annotated[float | None, typer.Option(help="Augmentation: pixels.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder of results; runs/<network>-<dataset> if left out.")
]


def train_diehl2015(
    dataset: Dataset = "digits",
    data: Root = None,
    download: Download = False,
    network: Annotated[str, typer.Option(help="cnn, or dense (784-1200-1200-10).")] = "cnn",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    schedule: Schedule = None,
    precision: Precision = None,
    dropout: Dropout = None,
    shift: Shift = None,
    seed: Seed = 0,
    validate: Validate = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """ReLU network of Diehl et al. 2015, to be converted. Options left out take the dataset's preset."""
    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "schedule": schedule,
        "precision": precision,
        "dropout": dropout,
        "shift": shift,
        "seed": seed,
        "validate": validate,
    }
    _train(network, ("cnn", "dense"), dataset, given, data, download, device, threads, out, resume)


def train_vgg16(
    dataset: Annotated[
        str, typer.Option(help="cifar10, mnist, or digits (in the package).")
    ] = "digits",
    data: Root = None,
    download: Download = False,
    network: Annotated[
        str | None,
        typer.Option(
            help="vgg16 or resnet20, as Sengupta et al. 2019; vgg: a small one with batch norm and max pooling. "
            "If left out vgg16 for cifar10, else vgg."
        ),
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="Of vgg16: channels and hidden neurons times this.")
    ] = None,
    batch_norm: Annotated[
        bool | None,
        typer.Option("--batch-norm", help="Of vgg16: batch norm after convolutions, no dropout."),
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    schedule: Schedule = None,
    precision: Precision = None,
    dropout: Dropout = None,
    shift: Shift = None,
    seed: Seed = 0,
    validate: Validate = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """VGG and residual ReLU networks, to be converted. Options left out take the dataset's preset."""
    given = {
        "width": width,
        "batch_norm": batch_norm,
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "schedule": schedule,
        "precision": precision,
        "dropout": dropout,
        "shift": shift,
        "seed": seed,
        "validate": validate,
    }
    chosen = network or ("vgg16" if dataset.lower() == "cifar10" else "vgg")
    allowed = ("vgg", "vgg16", "resnet20")
    _train(chosen, allowed, dataset, given, data, download, device, threads, out, resume)


def _train(
    network: str,
    allowed: tuple[str, ...],
    dataset: str,
    given: dict[str, Any],
    data: Path | None,
    download: bool,
    device: str,
    threads: int | None,
    out: Path | None,
    resume: bool,
) -> None:
    from snnfast.procedure import ann

    with plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        if network not in allowed:
            raise ValueError(f"--network must be one of {', '.join(allowed)}, got {network!r}")
        changes = {name: value for name, value in given.items() if value is not None}
        settings = ann.preset(network, dataset.lower(), **changes)
        needs_root(settings.dataset, data)
        folder = out or Path("runs") / f"{settings.network}-{settings.dataset}"
        chosen = chosen_device(device)
        try:
            result = ann.train(
                settings, folder, root=data, download=download, device=chosen, resume=resume
            )
        except KeyboardInterrupt:
            tell_interruption((folder / ann.CHECKPOINT).exists())
        typer.echo(result.summary())


def convert(
    run: Annotated[Path, typer.Argument(help="Folder of a run of train diehl2015 or train vgg16.")],
    data: Root = None,
    download: Download = False,
    method: Annotated[
        str, typer.Option(help="How thresholds are chosen: max, percentile, spikenorm or qcfs.")
    ] = "percentile",
    percentile: Annotated[float, typer.Option(help="Of the activations.")] = 99.9,
    per_channel: Annotated[
        bool, typer.Option(help="A threshold for every channel (max, percentile).")
    ] = False,
    steps: Annotated[
        list[int] | None,
        typer.Option(help="Score after so many steps; give it again for more, increasing."),
    ] = None,
    reset: Annotated[str, typer.Option(help="soft (subtracts the threshold) or hard.")] = "soft",
    encoder: Annotated[
        str,
        typer.Option(
            help="constant current, poisson spikes, or saturating ones (values beyond 1)."
        ),
    ] = "constant",
    initial_membrane: Annotated[
        float, typer.Option(help="Before the first step, as a part of the threshold.")
    ] = 0.5,
    scaling_factor: Annotated[
        float, typer.Option(help="Thresholds of spikenorm, as a part of the largest current.")
    ] = 1.0,
    calibration_steps: Annotated[int, typer.Option(help="Steps of the run of spikenorm.")] = 100,
    calibration_images: Annotated[
        int | None, typer.Option(help="Training images that choose thresholds; all if left out.")
    ] = None,
    levels: Annotated[int, typer.Option(help="Levels that qcfs quantises to.")] = 4,
    epochs: Annotated[int, typer.Option(help="Epochs of fine-tuning for qcfs.")] = 1,
    lr: Annotated[float, typer.Option(help="Learning rate of this fine-tuning.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 100,
    images: Annotated[
        int | None, typer.Option(help="Score so many held-out images; all if left out.")
    ] = None,
    seed: Seed = 0,
    validate: Annotated[
        bool, typer.Option(help="Score the validation split of a run with --validate.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results; RUN/<method> if left out.")
    ] = None,
    resume: Resume = False,
) -> None:
    """Convert a trained ReLU network to a spiking one, and report how well it follows."""
    from snnfast.procedure import ann, conversion

    with plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        given: dict[str, Any] = {
            "method": method,
            "percentile": percentile,
            "per_channel": per_channel,
            "scaling_factor": scaling_factor,
            "calibration_steps": calibration_steps,
            "levels": levels,
            "epochs": epochs,
            "lr": lr,
            "calibration_images": calibration_images,
            "reset": reset,
            "initial_membrane": initial_membrane,
            "encoder": encoder,
            "batch_size": batch_size,
            "images": images,
            "validate": validate,
            "seed": seed,
        }
        if steps:
            given["steps"] = tuple(steps)
        settings = conversion.Settings(**given)
        needs_root(ann.trained(run).settings.dataset, data)
        folder = out or run / settings.method
        chosen = chosen_device(device)
        try:
            result = conversion.convert(
                settings, run, folder, root=data, download=download, device=chosen, resume=resume
            )
        except KeyboardInterrupt:
            tell_interruption((folder / conversion.CHECKPOINT).exists())
        typer.echo(result.summary())
