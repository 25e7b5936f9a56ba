"""``snnfast train stdp``, ``assign stdp`` and ``infer stdp``."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated

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
    chosen_device,
    needs_root,
    plain_errors,
    tell_interruption,
)

Neurons = Annotated[int, typer.Option(help="Excitatory neurons.")]
Folder = Annotated[
    Path | None, typer.Option(help="Folder of the run; runs/stdp-<dataset>-<neurons> if left out.")
]


def train(
    dataset: Dataset = "digits",
    data: Root = None,
    download: Download = False,
    neurons: Neurons = 100,
    preset: Annotated[str, typer.Option(help="tuned, manual, n3ml or paper.")] = "tuned",
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 2,
    rule: Annotated[
        str | None, typer.Option(help="Another rule of snnfast.plasticity, with its defaults.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Rate of potentiation.")] = None,
    lr_final: Annotated[
        float | None, typer.Option(help="Learning rates at the end, as a part of those before.")
    ] = None,
    theta_plus: Annotated[
        float | None, typer.Option(help="Growth of a threshold per spike, mV.")
    ] = None,
    norm: Annotated[float | None, typer.Option(help="Sum of weights per input.")] = None,
    intensity: Annotated[float | None, typer.Option(help="Rate of a white pixel, Hz.")] = None,
    time_interval: Annotated[float | None, typer.Option(help="A presentation, ms.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE: any other setting of network or rule; repeatable."),
    ] = None,
    images_per_call: Annotated[
        int | None, typer.Option(help="Images after which learning rates are set anew.")
    ] = None,
    seed: Seed = 0,
    validate: Annotated[
        bool, typer.Option(help="Train without the validation split and score that, not the test.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Folder = None,
    resume: Resume = False,
) -> None:
    """Spike-timing-dependent plasticity (Diehl and Cook 2015): trains, labels the neurons, scores."""
    from snnfast.procedure import stdp, stdp_readout

    with plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        given = {
            "rule": rule,
            "lr": lr,
            "lr_final": lr_final,
            "theta_plus": theta_plus,
            "norm": norm,
            "intensity": intensity,
            "time_interval": time_interval,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        settings = stdp.Settings(
            dataset=dataset.lower(),
            neurons=neurons,
            preset=preset,
            epochs=epochs,
            images_per_call=images_per_call,
            seed=seed,
            validate=validate,
            changes=changes | dict(map(_name_and_value, setting or [])),
        )
        needs_root(settings.dataset, data)
        folder = out or _default_folder(dataset, neurons)
        chosen = chosen_device(device)
        try:
            stdp.train(settings, folder, root=data, download=download, device=chosen, resume=resume)
            trained = stdp_readout.trained(folder, root=data, device=chosen)
            typer.echo(stdp_readout.describe_assignment(stdp_readout.assign(trained, folder)))
            typer.echo(stdp_readout.infer(trained, folder).summary())
        except KeyboardInterrupt:
            tell_interruption((folder / stdp.CHECKPOINT).exists())
        typer.echo(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def assign(
    dataset: Dataset = "digits",
    data: Root = None,
    neurons: Neurons = 100,
    images: Annotated[
        int | None,
        typer.Option(
            help="How many training images decide, the last ones; if left out ten a neuron, at least 10,000."
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    out: Folder = None,
) -> None:
    """Labels the neurons of a run by their responses to training images."""
    from snnfast.procedure import stdp_readout

    with plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        folder = out or _default_folder(dataset, neurons)
        trained = stdp_readout.trained(folder, root=data, device=chosen_device(device))
        assigned = stdp_readout.assign(trained, folder, images=images)
        typer.echo(stdp_readout.describe_assignment(assigned))


def infer(
    dataset: Dataset = "digits",
    data: Root = None,
    neurons: Neurons = 100,
    device: Device = "auto",
    threads: Threads = None,
    out: Folder = None,
) -> None:
    """Scores a run whose neurons have labels on the test images, or the validation split of its settings."""
    from snnfast.procedure import stdp_readout

    with plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        folder = out or _default_folder(dataset, neurons)
        trained = stdp_readout.trained(folder, root=data, device=chosen_device(device))
        typer.echo(stdp_readout.infer(trained, folder).summary())


def _default_folder(dataset: str, neurons: int) -> Path:
    return Path("runs") / f"stdp-{dataset.lower()}-{neurons}"


def _name_and_value(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
