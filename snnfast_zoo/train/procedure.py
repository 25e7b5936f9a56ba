"""An entry of the table of procedures: a paper's settings, presets, data, network and training function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from snnfast.backend.devices import Work

from .checkpoint import CheckpointError, read_checkpoint
from .place import CHECKPOINT, Data, Place
from .result import Result
from .run import Run
from .score import largest
from .settings import Settings

S = TypeVar("S", bound=Settings)
PLACE = ("root", "download", "device", "resume", "weights", "monitor", "processes", "progress", "echo")


def _unchanged(settings: Any, x: Tensor) -> Tensor:
    return x


def _largest(settings: Any, model: nn.Module, x: Tensor, folder: Path) -> Tensor:
    return largest(model(x))


@dataclass(frozen=True)
class Procedure(Generic[S]):
    """A training procedure; a call trains with the settings of docs/results.md and returns a result.

    Attributes:
        name: name of the command.
        Settings: dataclass of the settings.
        chosen: maps a data set and changed settings to its preset, as differences from the defaults.
        load: maps settings, ``root``, ``download`` and ``device`` to the data of a run.
        model: maps settings and data to the untrained network, on the device of the data.
        train: maps settings and a :class:`Place` to the result of a run.
        ready: maps settings and samples of the kind that the run was trained with to the input of the network.
        answers: maps settings, network, its input and the folder of the run to labels ``[N]``.
        paper, network: for the help of the command.
        own_preset: data set whose preset a user's data get; empty: neutral settings.
        work: kind of work by which ``--device auto`` chooses the device.
        stem: beginning of the default name of the folder of results, if not the name of the command; suffix: its end.
    """

    name: str
    Settings: type[S]
    chosen: Callable[[str, Mapping[str, Any]], dict[str, Any]]
    load: Callable[..., Data]
    model: Callable[[S, Data], nn.Module]
    train: Callable[[S, Place], Result]
    ready: Callable[[S, Tensor], Tensor] = _unchanged
    answers: Callable[[S, nn.Module, Tensor, Path], Tensor] = _largest
    paper: str = ""
    network: str = ""
    own_preset: str = ""
    work: Work = "batches"
    stem: Callable[[S], str] | None = None
    suffix: Callable[[S], str] = lambda settings: ""

    def __call__(self, dataset: str | Path | None = None, *, out: str | Path | None = None, **options: Any) -> Result:
        """Train with the preset of ``dataset``, or of the default data set.

        Args:
            dataset: one of the data sets of the settings, or the path of a file or folder.
            out: folder of checkpoint, result and figures; None: nothing is written.
            **options: ``root``, ``download``, ``device``, ``resume``, ``weights``, ``monitor``, ``processes``,
                ``progress``, ``echo`` of :class:`Place`, and any setting that shall differ from the preset.

        Raises:
            TypeError, ValueError: for a setting of another name, or a value of wrong type or range.
        """
        how = {name: options.pop(name) for name in PLACE if name in options}
        settings = self.preset(dataset, **options)
        if out is not None and not isinstance(out, (str, Path)):
            raise TypeError(f"{self.name}: out must be the path of a folder, got {type(out).__name__}")
        with self.place(settings, None if out is None else Path(out).expanduser(), **how) as place:
            return self.train(settings, place)

    def preset(self, dataset: str | Path | None = None, **changes: Any) -> S:
        """Return the settings of docs/results.md for a data set, with ``changes``."""
        dataset = self.Settings.default("dataset") if dataset is None else dataset
        dataset = str(dataset) if isinstance(dataset, Path) else dataset
        self.Settings.check_choice("dataset", dataset)
        self.Settings.check_names(self.name, changes)
        return self.Settings(**{"dataset": dataset, **self.chosen(dataset, changes), **changes})

    def place(self, settings: S, out: Path | None = None, **how: Any) -> Place:
        """Return the place of a run, which says the preset of its data set."""
        values = {f.name: getattr(settings, f.name) for f in fields(settings)}
        shown = ", ".join(f"{name} {_shown(values[name])}" for name in self.chosen(settings.dataset, values))
        preset = f"preset of {settings.dataset}"
        if settings.is_own:
            preset = f"preset of {self.own_preset}" if self.own_preset else "neutral settings"
            preset += " for data of your own"
        how["preset"] = f"{self.name}: {preset}{shown and f': {shown}'}"
        return Place(settings, out, name=self.name, **how)

    def folder(self, settings: S) -> str:
        """Return the default name of the folder of results."""
        return f"{self.stem(settings) if self.stem else self.name}-{settings.label}{self.suffix(settings)}"

    def stored(self, folder: Path) -> S:
        """Return the settings of the run in ``folder``.

        Raises:
            FileNotFoundError, snnfast.checkpoint.CheckpointError: there is no checkpoint, or it is of another kind.
        """
        path = folder / CHECKPOINT
        checkpoint = read_checkpoint(path, self.Settings.name)
        try:
            return self.Settings(**checkpoint["settings"])
        except (TypeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path} is not of a run of {self.name}: {error}") from error

    def reopen(self, folder: Path, **where: Any) -> tuple[S, Run, Data]:
        """Return settings, run (without optimizer) and data of the run in ``folder``; ``where`` as for ``load``."""
        settings = self.stored(folder)
        data = self.load(settings, **where)
        checkpoint = read_checkpoint(folder / CHECKPOINT)
        with torch.random.fork_rng([data.device] if data.device.type == "cuda" else []):
            model = self.model(settings, data)
        run = Run(model, settings=settings.plain(), kind=settings.name, data=checkpoint["data"])
        try:
            model.load_state_dict(checkpoint["model"])
        except RuntimeError as error:
            raise CheckpointError(f"{folder / CHECKPOINT} does not fit this run: {error}") from error
        run.epoch, run.history = checkpoint["epoch"], checkpoint["history"]
        return settings, run, data


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
