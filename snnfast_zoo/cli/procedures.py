"""Commands ``snnfast train``, ``assign``, ``infer``, ``simulate`` and ``convert``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from typer.core import TyperGroup

from snnfast_zoo.cli.options import (
    PATH,
    Device,
    Download,
    Resume,
    Root,
    chosen_device,
    command,
    needs_root,
    plain_errors,
    tell_interruption,
)
from snnfast_zoo.data.edges import FORMATS
from snnfast_zoo.papers.conversion import convert as conversion
from snnfast_zoo.papers.diehl_cook2015 import readout
from snnfast_zoo.papers.procedures import connectome, load, stdp
from snnfast_zoo.papers.simulation import Simulation
from snnfast_zoo.train.checkpoint import same_settings
from snnfast_zoo.train.folder import locked
from snnfast_zoo.train.place import CHECKPOINT
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.processes import joined
from snnfast_zoo.train.repeats import RESULTS, repeat, unfinished
from snnfast_zoo.train.trained import predict

Out = Annotated[
    Path | None, typer.Option(help="Folder of results; default: a folder in runs/ named after the settings.", **PATH)
]
Watch = Annotated[bool, typer.Option("--monitor", help="Count spikes and operations of the network that results.")]


def training(procedure: Procedure[Any]) -> Callable[..., None]:
    """Return the command that trains by a procedure."""

    def train(
        changes: dict[str, Any],
        *,
        seeds: Annotated[
            int | None, typer.Option(min=1, max=10**6, help="Train once for each of N seeds and show the mean.")
        ] = None,
        data: Root = None,
        download: Download = False,
        device: Device = "auto",
        out: Out = None,
        resume: Resume = False,
        weights: Annotated[
            Path | None,
            typer.Option(help="Start from the weights of this checkpoint; not looked at with --resume.", **PATH),
        ] = None,
        monitor: Watch = False,
    ) -> None:
        settings = procedure.preset(**changes)
        needs_root(settings.dataset, data)
        many = seeds is not None or getattr(settings, "folds", None) is not None
        for option, named in (("--monitor", monitor), ("--weights", weights is not None)):
            if many and named:
                raise ValueError(f"{option} is for one run; leave --seeds and --folds out")
        name = procedure.folder(settings) + ("-repeats" if many else "")
        folder = out or Path("runs") / name
        where: dict[str, Any] = {"root": data, "download": download}
        where["device"] = chosen_device(device, procedure.work)
        try:
            with joined(where["device"]) as processes:
                where["processes"] = processes
                if many:
                    seed_range = range(settings.seed, settings.seed + (seeds or 1))
                    summary = repeat(procedure, settings, seed_range, folder, resume=resume, **where).summary()
                else:
                    where |= {"weights": weights, "monitor": monitor, "resume": resume}
                    with procedure.place(settings, folder, **where) as place:
                        summary = procedure.train(settings, place).summary()
                if processes.first:
                    typer.echo(summary)
        except KeyboardInterrupt:
            tell_interruption(folder / (RESULTS if many else CHECKPOINT), *unfinished(folder))

    train.__doc__ = f"{procedure.train.__doc__} Options left out take the dataset's preset."
    return command(procedure.Settings, train)


def simulating(simulation: Simulation) -> Callable[..., None]:
    """Return the command that runs a simulation."""

    def simulate(changes: dict[str, Any], *, out: Out = None, resume: Resume = False) -> None:
        folder = out or Path("runs") / simulation.name
        simulation.settings(**changes)  # wrong ones end each process before it waits for others
        try:
            with joined(torch.device("cpu")) as processes:
                summary = simulation(folder, resume=resume, **changes).summary()
                if processes.first:
                    typer.echo(summary)
                    typer.echo(f"Events, raster and numbers: {folder.resolve()}")
        except KeyboardInterrupt:
            tell_interruption(folder / CHECKPOINT)

    simulate.__doc__ = f"Simulate the network of {simulation.paper}; draw a raster, and write spikes and rates."
    return command(simulation.settings, simulate, defaults=True)


class SimulationOrEdges(TyperGroup):
    """A group of commands whose first argument may also be a file of edges, for ``connectome``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Use the command ``connectome`` if the first argument has a suffix of such files."""
        if args and args[0] not in self.commands and Path(args[0]).suffix in FORMATS:
            args = [connectome.name, "--edges", *args]
        return super().resolve_command(ctx, args)


def convert(
    changes: dict[str, Any],
    *,
    run: Annotated[
        Path, typer.Argument(help="Folder of a run of train diehl2015 or train vgg16.", **{**PATH, "metavar": "RUN"})
    ],
    data: Root = None,
    download: Download = False,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of results; default: RUN/<method>.", **PATH)] = None,
    resume: Resume = False,
    monitor: Watch = False,
) -> None:
    """Convert a trained ReLU network to a spiking one, and report how well it follows."""
    folder = out or run / conversion.ConversionSettings(**changes).method
    needs_root(conversion.ANN.stored(run).dataset, data)
    where: dict[str, Any] = {"root": data, "download": download, "device": chosen_device(device)}
    try:
        result = conversion.convert(run, out=folder, resume=resume, monitor=monitor, **where, **changes)
    except KeyboardInterrupt:
        tell_interruption(folder / conversion.CHECKPOINT)
    typer.echo(result.summary())


def assign(
    changes: dict[str, Any],
    *,
    images: Annotated[
        int | None,
        typer.Option(help="How many training images decide, the last ones; if left out ten a neuron, at least 10,000."),
    ] = None,
    data: Root = None,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """Label the neurons of a run by their responses to training images."""
    folder = _trained(changes, out)
    settings, run, loaded = stdp.reopen(folder, root=data, device=chosen_device(device))
    with locked(folder):
        typer.echo(readout.assign(settings, run, loaded, folder, images=images).summary())


def infer(changes: dict[str, Any], *, data: Root = None, device: Device = "auto", out: Out = None) -> None:
    """Score a run with labelled neurons on the test images, or on the validation split of its settings."""
    folder = _trained(changes, out)
    settings, run, loaded = stdp.reopen(folder, root=data, device=chosen_device(device))
    with locked(folder):
        labels = readout.stored(settings, run, loaded, folder)
        result = readout.infer(settings, run, loaded, labels, folder)
        result.write()
    typer.echo(result.summary())


RUN = "run"


class RunOrProcedure(TyperGroup):
    """A group of commands whose first argument may also be the folder of a run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Use the command ``run`` if the first argument is no command."""
        if args and args[0] not in self.commands:
            args = [RUN, *args]
        return super().resolve_command(ctx, args)


def classify(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", **{**PATH, "metavar": "RUN"})],
    samples: Annotated[
        list[Path],
        typer.Argument(
            help="Samples of the kind that the run was trained with: image files, recordings .bin or .bs2 of N-MNIST, "
            "files .npz, .npy or .pt with images or frames; or a data set as for training, whose test part is taken.",
            **{**PATH, "metavar": "SAMPLES..."},
        ),
    ],
    device: Device = "auto",
) -> None:
    """Print the class of every sample by the network of a run; each call writes its own RUN/predictions*.csv."""
    with plain_errors():
        net = load(run, device=chosen_device(device))
        rows, path = predict(net, samples)
    for source, name in rows:
        typer.echo(f"{source}  {name}")
    typer.echo(f"{len(rows)} predictions in {path}", err=True)


def _trained(changes: dict[str, Any], out: Path | None) -> Path:
    """Return the folder of a run; raise an error if its settings differ from ``changes``."""
    folder = out or Path("runs") / stdp.folder(stdp.preset(**changes))
    settings = stdp.stored(folder).plain()
    same_settings(folder / CHECKPOINT, settings, {**settings, **changes})
    return folder
