"""The command ``snnfast``. Each procedure adds one command to ``snnfast train``."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from snnfast import backend, memory
from snnfast.info import build_info
from snnfast.train import CheckpointError

app = typer.Typer(
    name="snnfast",
    help="Spiking neural networks with fused kernels: train a procedure, see what runs, measure.",
    no_args_is_help=True,
    add_completion=False,
)
train = typer.Typer(help="Train one of the procedures.", no_args_is_help=True)
app.add_typer(train, name="train")

Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; PyTorch's choice if left out.")
]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Wrong input is told in a line, without a traceback."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        FileNotFoundError,
        FileExistsError,
        ImportError,
        CheckpointError,
        backend.BackendError,
    ) as error:
        typer.secho(f"snnfast: {error}", err=True, fg="red")
        raise typer.Exit(2) from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"--device {name} was asked for, but {build_info()['cuda_backend_why']}; use --device cpu"
            )
        if (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"--device {name}: there are {torch.cuda.device_count()} GPUs")
    return device


@train.command("stbp")
def train_stbp(
    dataset: Annotated[str, typer.Option(help="digits (in the package) or mnist.")] = "digits",
    data: Annotated[
        Path | None, typer.Option(help="Folder of MNIST in torchvision's layout.")
    ] = None,
    download: Annotated[bool, typer.Option(help="Download MNIST into --data.")] = False,
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
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    validate: Annotated[
        bool, typer.Option(help="Train without the validation split and watch that, not the test.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results; runs/stbp-<dataset> if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Start from the weights of this checkpoint.")
    ] = None,
) -> None:
    """Spatio-temporal backpropagation (Wu et al. 2018). Options left out take the dataset's preset."""
    from snnfast.procedure import stbp

    with _plain_errors():
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
        if settings.dataset == "mnist" and data is None:
            raise ValueError(
                "--dataset mnist needs --data, the folder of MNIST in torchvision's layout; "
                "with --download it is fetched there"
            )
        folder = out or Path("runs") / f"stbp-{settings.dataset}{'-fc' if hidden else ''}"
        try:
            result = stbp.train(
                settings,
                folder,
                root=data,
                download=download,
                device=_device(device),
                resume=resume,
                weights=weights,
            )
        except KeyboardInterrupt:
            kept = (folder / stbp.CHECKPOINT).exists()
            tip = "repeat the command with --resume to go on" if kept else "nothing was saved yet"
            typer.secho(f"\nsnnfast: interrupted; {tip}", err=True, fg="yellow")
            raise typer.Exit(130) from None
        typer.echo(result.summary())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for figures and table.")] = Path("snnfast-demo"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train on the digits in the package and measure the speed: under a minute on 2 cores."""
    from snnfast.procedure.demo import run

    with _plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        run(out, seed=seed, device=_device(device), echo=typer.echo)


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show versions, instruction set, CUDA architectures, and what runs here and why."""
    values = build_info()
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    width = max(map(len, values))
    for name, value in values.items():
        shown = "-" if value in (None, "") else value
        typer.echo(f"{name:{width}}  {shown}")


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
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
    # Here and not in the commands: it holds for the whole process, which is ours only here.
    memory.keep_freed_memory()
    app()
