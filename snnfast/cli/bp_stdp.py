"""``snnfast train bp-stdp``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from snnfast.cli.options import (
    Device,
    Download,
    Root,
    Threads,
    chosen_device,
    needs_root,
    plain_errors,
    tell_interruption,
)


def train(
    dataset: Annotated[
        str, typer.Option(help="digits, iris, xor (all in the package) or mnist.")
    ] = "digits",
    data: Root = None,
    download: Download = False,
    hidden: Annotated[
        list[int] | None, typer.Option(help="Hidden neurons; give it again for another layer.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="regular or bernoulli spikes.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a presentation.")] = None,
    scale: Annotated[float | None, typer.Option(help="Intensity that fires in every step.")] = None,
    std: Annotated[
        list[float] | None,
        typer.Option(help="Standard deviation of the first weights; again for each layer."),
    ] = None,
    update: Annotated[
        str | None, typer.Option(help="step or sequence: when the weights change.")
    ] = None,
    shift: Annotated[int | None, typer.Option(help="Moves images by up to so many pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples that see the same weights.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="First learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random, the first of --seeds.")] = 0,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Train anew for so many seeds, show the mean.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validate, every seed on its own folds.")
    ] = None,
    validate: Annotated[
        bool,
        typer.Option(
            help="Watch a part of the training data. One run scores the test at its end, --seeds and --folds do not."
        ),
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results; runs/bp-stdp-<dataset> if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from what is in --out.")] = False,
) -> None:
    """BP-STDP (Tavanaei and Maida 2019). Options left out take the dataset's preset."""
    from snnfast.procedure import bp_stdp, repeats

    with plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        given = {
            "encoding": encoding,
            "time_interval": steps,
            "scale": scale,
            "std": tuple(std) if std else None,
            "update": update,
            "shift": shift,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
        }
        settings = bp_stdp.preset(
            dataset.lower(),
            tuple(hidden) if hidden else None,
            seed=seed,
            folds=folds,
            validate=validate,
            **{name: value for name, value in given.items() if value is not None},
        )
        needs_root(settings.dataset, data)
        many = folds is not None or seeds is not None
        folder = out or Path("runs") / f"bp-stdp-{settings.dataset}{'-repeats' if many else ''}"
        chosen = chosen_device(device)
        try:
            result: repeats.Repeats | bp_stdp.Result
            if many:
                trial = partial(bp_stdp.trial, root=data, download=download, device=chosen)
                of = range(seed, seed + (seeds or 1))
                result = repeats.repeat(trial, settings, of, folder, resume=resume)
            else:
                result = bp_stdp.train(
                    settings, folder, root=data, download=download, device=chosen, resume=resume
                )
        except KeyboardInterrupt:
            kept = repeats.RESULTS if many else bp_stdp.CHECKPOINT
            tell_interruption((folder / kept).exists())
        typer.echo(result.summary())
