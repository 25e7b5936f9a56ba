"""Base class of all procedures: load, train, score, save, resume, draw, repeat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from inspect import getfullargspec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from snnfast.backend.devices import Work
from snnfast.monitoring import Monitor
from snnfast.nn import SpikeProp
from snnfast.nn.calibration import firing_layers
from snnfast_zoo.data.own import class_names, label_of
from snnfast_zoo.train import Run, Score, evaluate, fit, largest

from ..checkpoint import CheckpointError, load_weights, read_checkpoint, same_settings
from ..processes import Processes
from ..score import Decide, Part
from . import repeats
from .figures import Draw, Figures
from .folder import locked, write_json
from .result import Result
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHECKPOINT, RESULT = "checkpoint.pt", "result.json"
SAVE_EVERY = 30.0  # seconds, within an epoch
WATCHED = 500  # held-out samples that a monitor records
LOOKED_AT = 100  # held-out samples that are checked for silent and saturated layers at the end of every run
# Images of each class of MNIST: of the training part, and of both parts.
MNIST = (
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958),
)
S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Data:
    """Samples and labels in memory, to train on and to score; ``split`` names the scored part."""

    train: Part
    held_out: Part
    split: str = "test"
    raw: tuple[int, ...] = ()  # shape of a sample before preprocessing, where that changes it

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.train[0].device

    @property
    def classes(self) -> int:
        """Number of classes in the labels of both parts."""
        return 1 + max(int(labels.max()) for _, labels in (self.train, self.held_out))


class Procedure(ABC, Generic[S]):
    """A training procedure; subclasses add settings, model, learning and figures.

    ``procedure(dataset, **changes)`` trains with the settings of docs/results.md for a data set and returns a result.
    """

    name: ClassVar[str]  # in commands, folders and errors
    title: ClassVar[str]  # in figures
    paper: ClassVar[str] = ""
    network_name: ClassVar[str] = ""  # a class of snnfast.papers
    figures_within_epochs: ClassVar[bool] = False
    revival: ClassVar[str] = "snnfast.nn.calibrate_"  # what to try with a silent or saturated layer
    own_preset: ClassVar[str] = ""  # preset for a user's data; empty: neutral settings
    work: ClassVar[Work] = "batches"  # kind of work by which --device auto chooses the device
    Settings: type[S]

    def __call__(self, dataset: str | None = None, *, out: str | Path | None = None, **options: Any) -> Result:
        """Train with the preset of ``dataset``, or of the default data set.

        Args:
            dataset: one of the data sets of the settings.
            out: folder of checkpoint, result and figures; None: nothing is written.
            **options: ``root``, ``download``, ``device``, ``resume``, ``weights``, ``monitor``, ``processes``,
                ``progress``, ``echo`` of :meth:`train`, and any setting that shall differ from the preset.

        Raises:
            TypeError, ValueError: for a setting of another name, or a value of wrong type or range.
        """
        train_options = getfullargspec(self.train).kwonlyargs
        how = {name: options.pop(name) for name in train_options if name in options}
        chosen = options if dataset is None else {"dataset": dataset, **options}
        return self.train(self.preset(**chosen), None if out is None else Path(out).expanduser(), **how)

    # Methods of each procedure.

    def preset(self, dataset: str | None = None, **changes: Any) -> S:
        """Return the settings of docs/results.md for a data set, with ``changes``."""
        dataset = self.Settings.default("dataset") if dataset is None else dataset
        self.Settings.check_choice("dataset", dataset)
        self.Settings.check_names(self.name, changes)
        return self.Settings(**{"dataset": dataset, **self.chosen(dataset, changes), **changes})

    @abstractmethod
    def chosen(self, dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the preset of a data set as differences from the defaults; ``changes`` are applied afterwards."""

    @abstractmethod
    def load(
        self, settings: S, root: str | Path | None = None, *, download: bool = False, device: torch.device | str = "cpu"
    ) -> Data:
        """Return the data of a run.

        Args:
            settings: the data set, and whether a validation part is held out.
            root: folder of a data set that is not in the package.
            download: let torchvision download it into ``root``.
            device: device of the tensors.

        Raises:
            ValueError, FileNotFoundError, ImportError: a data set of torchvision without ``root``, not there, damaged,
                or without torchvision.
        """

    @abstractmethod
    def model(self, settings: S, data: Data) -> nn.Module:
        """Return the untrained network, on the device of the data."""

    def optimizer(self, settings: S, model: nn.Module) -> torch.optim.Optimizer | None:
        """Return the optimizer; None for a rule that changes weights itself."""
        return None

    def scheduler(self, settings: S, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
        """Return the learning-rate schedule: a cosine that falls to 0 over the epochs."""
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(settings.epochs, 1))

    def decide(self, settings: S) -> Decide:
        """Return the map from outputs to labels."""
        return largest

    def counts(self, settings: S, data: Data) -> Score:
        """Return the score that counts correct answers over an epoch."""
        return Score(self.decide(settings))

    @abstractmethod
    def learning(self, settings: S, run: Run, data: Data) -> dict[str, Any]:
        """Return arguments of :func:`snnfast.train.fit`: ``batch_size``, ``loss``, ``step``, ``augment`` and others."""

    def figures(self, settings: S, run: Run, data: Data) -> dict[str, Draw]:
        """Return the functions that draw figures during a run, by file name."""
        return {"curves": partial(self.curves, settings)}

    def score(self, settings: S, run: Run, data: Data) -> float:
        """Return the accuracy on the held-out part, in [0, 1]."""
        loss = self.learning(settings, run, data)["loss"]
        return evaluate(run.model, data.held_out, loss=loss, decide=run.score.decide).accuracy

    def measured(self, settings: S, run: Run, data: Data) -> tuple[dict[str, Any], list[str]]:
        """Return more numbers of a finished run, and lines about them."""
        return {}, []

    def watch(self, settings: S, run: Run, data: Data) -> Monitor:
        """Return a monitor that recorded the network while it scored the first held-out samples."""
        samples, labels = data.held_out
        few = replace(data, held_out=(samples[:WATCHED], labels[:WATCHED]))
        with Monitor(run.model, membranes=4) as watching:
            self.score(settings, run, few)
        return watching

    def announce(self, settings: S, data: Data, echo: Callable[[str], object] | None) -> None:
        """Report the preset of a run, and images that are named MNIST but differ from it."""
        if echo is None:
            return
        values = {f.name: getattr(settings, f.name) for f in fields(settings)}
        chosen = self.chosen(settings.dataset, values)
        shown = ", ".join(f"{name} {_shown(values[name])}" for name in chosen)
        preset = f"preset of {settings.dataset}"
        if self.is_own(settings):
            source = f"preset of {self.own_preset}" if self.own_preset else "neutral settings"
            preset = f"{source} for data of your own"
        echo(f"{self.name}: {preset}{shown and f': {shown}'}")
        if settings.dataset == "mnist":
            labels = torch.cat([part[1].flatten().cpu() for part in (data.train, data.held_out)])
            if tuple(labels.bincount().tolist()) not in MNIST:
                echo(
                    "these images are not those of MNIST, for which the settings are tuned, augmentation included; for "
                    "neutral settings give them as data of your own: --dataset FILE.npz, or the name of their set in "
                    "torchvision"
                )

    def is_own(self, settings: S) -> bool:
        """Return whether the data set is a user's, for which there is no published setting."""
        choices = self.Settings.__dataclass_fields__["dataset"].metadata["choices"]
        return bool(choices) and settings.dataset not in choices

    def troubles(self, settings: S, run: Run, data: Data) -> list[str]:
        """Return a line for every silent or saturated layer of a trained network, with advice."""
        watched = type(self).watch is not Procedure.watch
        model = run.model
        if not watched and not firing_layers(model) and not _fires_once(model):
            return []
        samples, labels = data.held_out
        chosen = torch.linspace(0, len(labels) - 1, min(LOOKED_AT, len(labels))).long()
        part = samples[chosen.to(samples.device)], labels[chosen.to(labels.device)]
        few = replace(data, held_out=part)
        lines = self.watch(settings, run, few).activity().troubles()
        return [f"{line}; try {self.revival} (docs: Nothing fires)" for line in lines]

    def folder(self, settings: S) -> str:
        """Return the default name of the folder of results."""
        return f"{self.name}-{label_of(settings.dataset)}"

    # Methods shared by all procedures.

    def prepare(self, settings: S, data: Data) -> Run:
        """Return an untrained run; sets the seed of torch's global generator."""
        torch.manual_seed(settings.seed)
        model = self.model(settings, data)
        optimizer = self.optimizer(settings, model)
        return Run(
            model,
            optimizer,
            None if optimizer is None else self.scheduler(settings, optimizer),
            settings=settings.plain(),
            kind=self.Settings.name,
            score=self.counts(settings, data),
        )

    def train(
        self,
        settings: S,
        out: Path | None = None,
        *,
        root: str | Path | None = None,
        download: bool = False,
        device: torch.device | str = "cpu",
        resume: bool = False,
        weights: str | Path | None = None,
        monitor: bool = False,
        processes: Processes | None = None,
        progress: bool | None = None,
        echo: Callable[[str], object] | None = tqdm.write,
    ) -> Result:
        """Train and score; save checkpoint, result and figures in ``out``, and show the figures live in a window.

        Args:
            settings: the settings of the run.
            out: folder, made if missing; None: nothing is written.
            root: folder of the data set.
            download: let torchvision download it.
            device: device of the network and the data.
            resume: resume from the checkpoint in ``out``, which must have the same settings.
            weights: a checkpoint of a run with the same network, to start from its weights; unused when resuming.
            monitor: record the activity of the trained network; see :func:`snnfast.monitor`. Its figures are
                ``monitor_*.png``.
            processes: the processes that train this run together, each on its ``device``; see
                :func:`snnfast.train.fit`. The first one writes and prints. None: this process alone.
            progress: progress bar; see :func:`snnfast.train.fit`.
            echo: called with one line for each epoch; None for silence.

        Raises:
            FileExistsError: ``out`` holds a checkpoint or a result, and ``resume`` is False.
            FileNotFoundError, snnfast.checkpoint.CheckpointError: there is nothing to resume, or it does not fit.
            snnfast_zoo.train.runs.folder.FolderInUseError: another run writes into ``out``.
            OSError: ``out`` cannot be written.
            ValueError, ImportError: see :meth:`load`.
        """
        options: dict[str, Any] = {"progress": progress, "echo": echo, "processes": processes}
        group = processes or Processes()
        start = partial(self._start, settings, root, download, device, group, weights=weights)
        first = echo if group.rank == 0 and not resume else None
        if out is None:
            if resume:
                raise ValueError(f"{self.name}: resume needs out, the folder of the run, got None")
            run, data = start()
            self.announce(settings, data, first)
            self.fit(settings, run, data, **options)
            result = self.result(settings, run, data, progress=progress)
            return self._watched(result, data) if monitor else result
        checkpoint, writes = out / CHECKPOINT, group.rank == 0
        with locked(out) if writes else nullcontext():
            # Raise errors of a checkpoint before the data are read, and errors of the folder before the first epoch.
            if resume:
                stored = read_checkpoint(checkpoint, self.Settings.name)["settings"]
                same_settings(checkpoint, stored, settings.plain())
            else:
                repeats.refuse_to_replace(checkpoint, out / RESULT)
            run, data = start(checkpoint if resume else None)
            group.wait()  # all read the folder before the first process writes
            if not writes:
                self.fit(settings, run, data, **options)
                return self.result(settings, run, data, progress=False)
            figures = Figures(out, self.figures(settings, run, data))
            if not resume:
                run.save(checkpoint)
            self.announce(settings, data, first)
            options |= {"checkpoint": checkpoint, "save_every": SAVE_EVERY}
            if self.figures_within_epochs:
                options["after_batch"] = figures.update
            self.fit(settings, run, data, after_epoch=figures.update, **options)
            figures.finish(run)
            result = self.result(settings, run, data, out, progress=progress)
            return self._watched(result, data) if monitor else result

    def _start(
        self,
        settings: S,
        root: str | Path | None,
        download: bool,
        device: torch.device | str,
        group: Processes,
        checkpoint: Path | None = None,
        weights: str | Path | None = None,
    ) -> tuple[Run, Data]:
        """Return a run, untrained or restored from ``checkpoint``, and its data.

        With several processes, the first one downloads before the others read.
        """
        first = group.rank == 0
        if download and not first:
            group.wait()
        data = self.load(settings, root, download=download and first, device=device)
        if download and first:
            group.wait()
        run = self.prepare(settings, data)
        run.data = {
            "shape": list(data.train[0].shape[1:]),
            "raw": list(data.raw or data.train[0].shape[1:]),
            "classes": class_names(settings.dataset, data.classes),
        }
        if checkpoint is not None:
            run.load(checkpoint)
        elif weights is not None:
            load_weights(run.model, Path(weights).expanduser())
        return run, data

    def ready(self, settings: S, x: Tensor) -> Tensor:
        """Return the network's input for samples ``[N, ...]`` of a user's data."""
        return x

    def answers(self, settings: S, model: nn.Module, x: Tensor, folder: Path) -> Tensor:
        """Return the labels ``[N]`` that a trained network predicts for preprocessed samples."""
        return self.decide(settings)(model(x))

    def fit(self, settings: S, run: Run, data: Data, **options: Any) -> Run:
        """Train ``run`` to its end; ``options`` as in :func:`snnfast.train.fit`."""
        # Calibration would change the published results.
        defaults = {"held_out": data.held_out, "calibrate": 0.1 if self.is_own(settings) else None}
        defaults |= self.learning(settings, run, data)
        return fit(run, data.train, epochs=settings.epochs, **{**defaults, **options})

    def result(
        self, settings: S, run: Run, data: Data, out: Path | None = None, *, progress: bool | None = None
    ) -> Result:
        """Score a finished run on the held-out part, and save the numbers in ``out``."""
        accuracy = self.score(settings, run, data)
        measured, remarks = self.measured(settings, run, data)
        remarks = [*remarks, *self.troubles(settings, run, data)]
        result = Result(settings, run, data.split, accuracy, measured, remarks, out)
        self.keep(result)
        return result

    def _watched(self, result: Result, data: Data) -> Result:
        watching = self.watch(cast(S, result.settings), result.run, data)
        result = replace(result, activity=watching.activity())
        self.keep(result)
        if result.out is not None:
            from snnfast_zoo import visual

            for name, figure in watching.figures().items():
                visual.save(figure, result.out / f"monitor_{name}.png")
        return result

    def keep(self, result: Result) -> None:
        """Write ``result.json``, if the run has a folder."""
        if result.out is not None:
            numbers = {
                "procedure": self.name,
                "settings": result.run.settings,
                "split": result.split,
                "accuracy": result.accuracy,
                **result.measured,
                **({} if result.activity is None else {"activity": result.activity.as_dict()}),
                "seconds": round(result.seconds, 3),
                "threads": torch.get_num_threads(),
                "history": result.run.history,
            }
            write_json(result.out / RESULT, numbers)

    def repeat(
        self,
        settings: S,
        seeds: Sequence[int],
        out: Path,
        *,
        sweep: Mapping[str, Sequence[Any]] | None = None,
        resume: bool = False,
        processes: Processes | None = None,
        progress: bool | None = None,
        **where: Any,
    ) -> repeats.Repeats:
        """Train for every seed and fold; write ``out / "results.json"`` after each, and checkpoints meanwhile.

        With ``sweep``, train for all combinations of its values of settings, ``{"lr": (0.001, 0.002)}``.

        ``where`` are ``root``, ``download`` and ``device`` of :meth:`train`.
        """
        writes = processes is None or processes.rank == 0
        with locked(out) if writes else nullcontext():
            return repeats.repeat(
                partial(self.trials, out=out, **where),
                settings,
                seeds,
                out,
                sweep=repeats.combinations(sweep or {}),
                at_once=self.at_once(settings, where.get("device", "cpu")),
                resume=resume,
                processes=processes,
                progress=progress,
            )

    def at_once(self, settings: S, device: torch.device | str) -> int:
        """Return the number of runs to train together."""
        return 1

    def trials(
        self, every: Sequence[S], *, out: Path, progress: bool | None = None, **where: Any
    ) -> list[repeats.Trial]:
        """Train a group of runs, here a single run, with a checkpoint in ``out``; ``where`` as in :meth:`repeat`."""
        (settings,) = every
        data = self.load(settings, **where)
        run = self.prepare(settings, data)
        unfinished = repeats.Unfinished(out, settings, SAVE_EVERY)
        unfinished.load(run)
        how: dict[str, Any] = {"progress": progress, "echo": None}
        self.fit(settings, run, data, after_batch=unfinished.save, after_epoch=unfinished.save, **how)
        result = self.result(settings, run, data, progress=progress)
        unfinished.end()
        return [repeats.Trial(result.accuracy, result.measured.get("converged"), result.seconds)]

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

    def reopen(
        self,
        folder: Path,
        *,
        root: str | Path | None = None,
        download: bool = False,
        device: torch.device | str = "cpu",
    ) -> tuple[S, Run, Data]:
        """Return settings, run and data of the run in ``folder``; errors as in :meth:`stored` and :meth:`load`."""
        settings = self.stored(folder)
        run, data = self._start(settings, root, download, device, Processes(), folder / CHECKPOINT)
        return settings, run, data

    def curves(self, settings: S, run: Run) -> Figure | None:
        """Draw loss and accuracy over the epochs of a run; None before the first epoch."""
        _, held_out = settings.splits
        names = {
            "train_loss": "loss",
            "train_accuracy": "accuracy",
            f"{held_out}_loss": "held_out_loss",
            f"{held_out}_accuracy": "held_out_accuracy",
        }
        return self.drawn(settings, run, names)

    def drawn(self, settings: S, run: Run, names: Mapping[str, str]) -> Figure | None:
        """Draw columns of a run's history; ``names`` maps their names in the figure to those in the history."""
        from snnfast_zoo import visual

        if not run.history:
            return None
        series = {name: [row[key] for row in run.history] for name, key in names.items()}
        return visual.curves(series, title=f"{self.title}, {label_of(settings.dataset)}")


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _fires_once(model: nn.Module) -> bool:
    return any(isinstance(m, SpikeProp) for m in model.modules())
