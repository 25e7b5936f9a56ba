"""Options of the commands, from a dataclass of settings or shared by all; and error messages for wrong input."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NoReturn

import torch
import typer

from snnfast import backend
from snnfast.backend import devices
from snnfast_zoo.train.checkpoint import CheckpointError
from snnfast_zoo.train.folder import FolderInUseError
from snnfast_zoo.train.settings import Options, kind_of

TORCHVISION = {"mnist": "MNIST", "smnist": "MNIST", "psmnist": "MNIST", "cifar10": "CIFAR-10"}


def _folder(text: str) -> Path:
    if not text:  # Path("") is the current folder
        raise typer.BadParameter("must be a path, got ''")
    return Path(text).expanduser()  # a shell does not expand --out=~/run


PATH: dict[str, Any] = {"parser": _folder, "metavar": "PATH"}

# Errors that are reported in a line, and texts of PyTorch's RuntimeError when memory runs out.
REPORTED = (*(ValueError, TypeError, OSError, ImportError), *(CheckpointError, FolderInUseError, backend.BackendError))
OUT_OF_MEMORY = ("allocate memory", "not enough memory", "out of memory", "size calculation overflowed")

Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder of MNIST or CIFAR-10 in torchvision's layout; of CIFAR-10 also images, train/CLASS/* and "
        "test/CLASS/*.",
        **PATH,
    ),
]
Download = Annotated[bool, typer.Option(help="Download the data set into --data.")]
Resume = Annotated[bool, typer.Option(help="Continue the run in --out.")]
Device = Annotated[str, typer.Option(help="auto (the faster one: see snnfast info), cpu, cuda or cuda:N.")]
# The system may refuse to start more threads than this, which ends the process.
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))
Threads = Annotated[int | None, typer.Option(min=1, max=MOST_THREADS, help="CPU threads; default: PyTorch's choice.")]


def command(
    settings: type[Options], body: Callable[..., None], *, only: Container[str] | None = None, defaults: bool = False
) -> Callable[..., None]:
    """Wrap ``body`` as a function for typer, with the fields of ``settings`` and the parameters of ``body`` as options.

    The first argument of ``body`` is a dictionary of the settings that the user named. Settings that the user leaves
    out have the values of the preset.

    Args:
        settings: a class whose fields made by :func:`snnfast_zoo.train.settings.option` become options.
        body: takes the named settings first; its other parameters are annotated for typer. Its docstring is the help.
        only: names of the fields that become options; None: all.
        defaults: show the fields' defaults in the help, for settings without presets.
    """
    body_parameters = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
    body_parameters.append(
        inspect.Parameter("threads", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Threads)
    )
    known = [name for name in _commanded(settings) if only is None or name in only]
    # Arguments come first, then options of the procedure, then shared options.
    body_parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
    first = sum(p.default is inspect.Parameter.empty for p in body_parameters)
    parameters = [
        *body_parameters[:first],
        *(_parameter(settings, n, defaults) for n in known),
        *body_parameters[first:],
    ]

    def call(**values: Any) -> None:
        named, threads = {name: values.pop(name) for name in known}, values.pop("threads")
        with plain_errors():
            changes = {name: _value(settings, name, value) for name, value in named.items() if value not in (None, [])}
            if threads is not None:
                torch.set_num_threads(threads)
            body(changes, **values)

    call.__doc__ = body.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _commanded(settings: type[Options]) -> list[str]:
    """Return the names of the fields that are options of a command."""
    return [f.name for f in fields(settings) if f.metadata["command"]]


def _parameter(settings: type[Options], name: str, defaults: bool) -> inspect.Parameter:
    kind, flag = kind_of(settings, name), _flag(settings, name)
    annotation: Any = list[str] if kind.item is dict else kind.item
    if kind.item is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    if kind.several:
        annotation = list[kind.item]  # type: ignore[name-defined]
    text, default = settings.__dataclass_fields__[name].metadata["help"], settings.default(name)
    if defaults and default not in (None, False, ()):
        shown = " ".join(map(str, default)) if kind.several else default
        text = f"{text} Default: {shown}."
    option = typer.Option(*flag.split(), help=text, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation | None, option]
    )


def _value(settings: type[Options], name: str, value: Any) -> Any:
    kind = kind_of(settings, name)
    if kind.several:
        return tuple(value)
    if kind.item is dict:
        return dict(_name_and_value(_flag(settings, name), text) for text in value)
    choices = settings.__dataclass_fields__[name].metadata["choices"]
    return value.lower() if name == "dataset" and value.lower() in choices else value


def _flag(settings: type[Options], name: str) -> str:
    flag: str | None = settings.__dataclass_fields__[name].metadata["flag"]
    return flag or f"--{name.replace('_', '-')}"


def _name_and_value(flag: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{flag} must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


@contextmanager
def plain_errors() -> Iterator[None]:
    """Report wrong input, errors of the system and Ctrl-C in a line, without a traceback."""
    try:
        yield
    except REPORTED as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        _tell(text, error)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(w in str(error) for w in OUT_OF_MEMORY):
            raise
        text = "there is not enough memory; a smaller network, batch or data set may fit"
        _tell(f"{text}: {error}" if str(error) else text, error)
    except KeyboardInterrupt:
        tell_interruption()


def _tell(text: str, error: Exception) -> NoReturn:
    one_line = text.replace("\n", " ")
    typer.secho(f"snnfast: {one_line}", err=True, fg="red")
    raise typer.Exit(2) from error


def chosen_device(name: str, work: devices.Work = "batches") -> torch.device:
    """Return the device that ``--device`` names, if it exists; auto: the faster one for the work."""
    if name == "auto":
        name = devices.auto(work).device.type
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"  # torchrun: a GPU for each process
    return devices.present(name, "--device", "auto, ")


def needs_root(dataset: str, root: Path | None) -> None:
    """Raise ValueError if a data set of torchvision lacks its folder, before anything is computed."""
    if dataset in TORCHVISION and root is None:
        raise ValueError(
            f"{dataset} needs --data, the folder of {TORCHVISION[dataset]} in torchvision's layout; "
            "with --download it is fetched there"
        )


def tell_interruption(*saved: Path) -> NoReturn:
    """End the command with the exit status of Ctrl-C; say how to resume if one of the files ``saved`` exists."""
    resumable = any(path.exists() for path in saved)
    tip = "; repeat the command with --resume to go on" if resumable else "; nothing was saved yet"
    typer.secho(f"\nsnnfast: interrupted{tip if saved else ''}", err=True, fg="yellow")
    raise typer.Exit(130) from None
