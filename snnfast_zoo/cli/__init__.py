"""The command ``snnfast``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from snnfast import __version__
from snnfast.backend import memory
from snnfast.compiler import build
from snnfast.compiler.info import build_info
from snnfast_zoo.cli import procedures
from snnfast_zoo.cli.options import PATH, Device, chosen_device, command, plain_errors
from snnfast_zoo.papers.conversion import convert as conversion
from snnfast_zoo.papers.procedures import PROCEDURES, SIMULATIONS, stdp

RULES = "Rules, papers and networks (snnfast.papers):\n\n" + "\n\n".join(
    f"train {p.name}: {p.paper}, {p.network}" for p in PROCEDURES
)
app = typer.Typer(
    name="snnfast",
    help="Spiking neural networks with fused kernels: train, convert, measure, and see what runs.",
    epilog=RULES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its tables cut options at 80 columns
)
train = typer.Typer(help="Train one of the procedures.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train, name="train")
for procedure in PROCEDURES:
    train.command(procedure.name)(procedures.training(procedure))
assign = typer.Typer(help="Label neurons that learned without labels.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(assign, name="assign")
infer = typer.Typer(
    cls=procedures.RunOrProcedure,
    help="Classify samples by the network of a run: snnfast infer RUN SAMPLES...; or score a run of stdp.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(infer, name="infer")
infer.command(procedures.RUN)(procedures.classify)
named = ("dataset", "neurons")
assign.command("stdp")(command(stdp.Settings, procedures.assign, only=named))
infer.command("stdp")(command(stdp.Settings, procedures.infer, only=named))
simulate = typer.Typer(
    cls=procedures.SimulationOrEdges,
    help="Simulate a paper's sparse network, or the connectome in a file: snnfast simulate FILE.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(simulate, name="simulate")
for simulation in SIMULATIONS:
    simulate.command(simulation.name)(procedures.simulating(simulation))
app.command("convert")(command(conversion.ConversionSettings, procedures.convert, defaults=True))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"snnfast {__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")
    ] = False,
) -> None:
    """Options without a command."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for figures and table.", **PATH)] = Path("snnfast-demo"),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers.")] = 0,
    device: Device = "auto",
) -> None:
    """Train on the digits in the package, measure the speed; half a minute on a free core, some on a busy machine."""
    with plain_errors():
        from .demonstration import run

        run(out, seed=seed, device=chosen_device(device), echo=typer.echo)


@app.command()
def info(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show versions, instruction set, CUDA architectures, and what runs here and why."""
    values = build_info()
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    width = max(map(len, values))
    for name, value in values.items():
        shown = "-" if value in (None, "") else value
        typer.echo(f"{name:{width}}  {shown}")


@app.command()
def cache(clear: Annotated[bool, typer.Option("--clear", help="Delete them.")] = False) -> None:
    """Show the number of cached compiled neurons and their folder, or delete them."""
    with plain_errors():
        number, size = build.clear() if clear else build.cached()
    place = "deleted from" if clear else "in"
    typer.echo(f"{number} libraries ({size:,} bytes) {place} {build.folder()}")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(context: typer.Context) -> None:
    """Run the benchmarks; needs the folder benchmarks/ of the source in the current directory."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        benchmarks = importlib.import_module("benchmarks.__main__")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "benchmarks":
            raise
        typer.secho(
            "snnfast: the benchmarks are not part of the installed package. Run this in a checkout of the source, "
            "the folder that holds benchmarks/, setup.py and csrc/.",
            err=True,
            fg="red",
        )
        raise typer.Exit(2) from None
    benchmarks.app(context.args or ["--help"], prog_name="snnfast bench")


def main() -> None:
    """Entry point of the command ``snnfast``."""
    # Set here and not in the commands, because it affects the whole process, which may be a user's there.
    # A simulation allocates once, and what it frees while it builds would stay with a large network.
    if sys.argv[1:2] != ["simulate"]:
        memory.keep_freed_memory()
    app()
