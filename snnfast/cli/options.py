"""What the commands share: options, and how they tell of wrong input and interruptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer

from snnfast import backend
from snnfast.info import build_info
from snnfast.train import CheckpointError

TORCHVISION = {"mnist": "MNIST", "cifar10": "CIFAR-10"}

Dataset = Annotated[str, typer.Option(help="digits (in the package) or mnist.")]
Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder of MNIST or CIFAR-10 in torchvision's layout; of CIFAR-10 also images, train/CLASS/* and "
        "test/CLASS/*."
    ),
]
Download = Annotated[bool, typer.Option(help="Download the data set into --data.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Validate = Annotated[
    bool,
    typer.Option(
        help="Train without the validation split and watch that; the test is scored at the end."
    ),
]
Resume = Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; PyTorch's choice if left out.")
]


@contextmanager
def plain_errors() -> Iterator[None]:
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


def chosen_device(name: str) -> torch.device:
    """The device that ``--device`` names, if it is there."""
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


def needs_root(dataset: str, root: Path | None) -> None:
    """Says what a data set of torchvision lacks before anything is computed."""
    if dataset in TORCHVISION and root is None:
        raise ValueError(
            f"--dataset {dataset} needs --data, the folder of {TORCHVISION[dataset]} in torchvision's layout; "
            "with --download it is fetched there"
        )


def tell_interruption(kept: bool) -> NoReturn:
    """Ends the command as a shell expects of Ctrl-C, and says how to go on."""
    tip = "repeat the command with --resume to go on" if kept else "nothing was saved yet"
    typer.secho(f"\nsnnfast: interrupted; {tip}", err=True, fg="yellow")
    raise typer.Exit(130) from None
