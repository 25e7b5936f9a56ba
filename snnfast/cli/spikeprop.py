"""``snnfast train spikeprop``."""

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
        str, typer.Option(help="iris, cancer, digits, xor (all in the package) or mnist.")
    ] = "iris",
    code: Annotated[str | None, typer.Option(help="population or latency.")] = None,
    data: Root = None,
    download: Download = False,
    hidden: Annotated[
        list[int] | None, typer.Option(help="Hidden neurons; give it again for another layer.")
    ] = None,
    terminals: Annotated[int | None, typer.Option(help="Synapses of a connection.")] = None,
    tau: Annotated[float | None, typer.Option(help="Time constant in ms.")] = None,
    loss: Annotated[str | None, typer.Option(help="cross-entropy or squared-error.")] = None,
    jitter: Annotated[float | None, typer.Option(help="Noise on input times in ms.")] = None,
    shift: Annotated[int | None, typer.Option(help="Moves images by up to so many pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's first learning rate.")] = None,
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
        Path | None, typer.Option(help="Folder of results; runs/spikeprop-<dataset> if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from what is in --out.")] = False,
) -> None:
    """SpikeProp (Bohte et al. 2002): exact spike times. Options left out take the dataset's preset."""
    from snnfast.procedure import repeats, spikeprop

    with plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        given = {
            "hidden": tuple(hidden) if hidden else None,
            "terminals": terminals,
            "tau": tau,
            "loss": loss,
            "jitter": jitter,
            "shift": shift,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
        }
        settings = spikeprop.preset(
            dataset.lower(),
            code,
            seed=seed,
            folds=folds,
            validate=validate,
            **{name: value for name, value in given.items() if value is not None},
        )
        needs_root(settings.dataset, data)
        many = folds is not None or seeds is not None
        folder = out or Path("runs") / f"spikeprop-{settings.dataset}{'-repeats' if many else ''}"
        chosen = chosen_device(device)
        try:
            result: repeats.Repeats | spikeprop.Result
            if many:
                trial = partial(spikeprop.trial, root=data, download=download, device=chosen)
                of = range(seed, seed + (seeds or 1))
                result = repeats.repeat(trial, settings, of, folder, resume=resume)
            else:
                result = spikeprop.train(
                    settings, folder, root=data, download=download, device=chosen, resume=resume
                )
        except KeyboardInterrupt:
            kept = repeats.RESULTS if many else spikeprop.CHECKPOINT
            tell_interruption((folder / kept).exists())
        typer.echo(result.summary())
