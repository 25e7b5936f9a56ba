"""``snnfast train stbp``."""

from __future__ import annotations

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
    Validate,
    chosen_device,
    needs_root,
    plain_errors,
    tell_interruption,
)


def train(
    dataset: Dataset = "digits",
    data: Root = None,
    download: Download = False,
    hidden: Annotated[
        int | None, typer.Option(help="Fully connected network with so many hidden neurons.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Time steps per image.")] = None,
    encoding: Annotated[str | None, typer.Option(help="bernoulli or direct.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs; also the length of the schedule.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's first learning rate.")] = None,
    shift: Annotated[float | None, typer.Option(help="Augmentation: pixels.")] = None,
    rotate: Annotated[float | None, typer.Option(help="Augmentation: degrees.")] = None,
    scale: Annotated[float | None, typer.Option(help="Augmentation: fraction.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or bfloat16 for products and convolutions.")
    ] = None,
    seed: Seed = 0,
    validate: Validate = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results; runs/stbp-<dataset> if left out.")
    ] = None,
    resume: Resume = False,
    weights: Annotated[
        Path | None, typer.Option(help="Start from the weights of this checkpoint.")
    ] = None,
) -> None:
    """Spatio-temporal backpropagation (Wu et al. 2018). Options left out take the dataset's preset."""
    from snnfast.procedure import stbp

    with plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        given = {
            "time_interval": steps,
            "encoding": encoding,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "shift": shift,
            "rotate": rotate,
            "scale": scale,
            "precision": precision,
        }
        settings = stbp.preset(
            dataset.lower(),
            None if hidden is None else (hidden,),
            seed=seed,
            validate=validate,
            **{name: value for name, value in given.items() if value is not None},
        )
        needs_root(settings.dataset, data)
        folder = out or Path("runs") / f"stbp-{settings.dataset}{'-fc' if hidden else ''}"
        try:
            result = stbp.train(
                settings,
                folder,
                root=data,
                download=download,
                device=chosen_device(device),
                resume=resume,
                weights=weights,
            )
        except KeyboardInterrupt:
            tell_interruption((folder / stbp.CHECKPOINT).exists())
        typer.echo(result.summary())
