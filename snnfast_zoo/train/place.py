"""The place of a run: its folder, where its data are, the processes that train it, its figures and its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from snnfast.backend.devices import present
from snnfast.monitoring import Monitor
from snnfast.nn import SpikeProp
from snnfast.nn.calibration import firing_layers
from snnfast_zoo.data.own import class_names

from .checkpoint import load_weights, read_checkpoint, same_settings
from .figures import Draw, Figures
from .folder import locked, refuse_to_replace
from .processes import Processes
from .result import RESULT, Result
from .run import Output, Run
from .score import Part
from .settings import Settings

CHECKPOINT = "checkpoint.pt"
WATCHED = 500  # held-out samples that a monitor records
LOOKED_AT = 100  # held-out samples that are checked for silent and saturated layers at the end of every run
# Images of each class of MNIST: of the training part, and of both parts.
MNIST = (
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958),
)
OTHER_MNIST = (
    "these images are not those of MNIST, for which the settings are tuned, augmentation included; for neutral "
    "settings give them as data of your own: --dataset FILE.npz, or the name of their set in torchvision"
)


@dataclass(frozen=True)
class Data:
    """Samples and labels in memory, to train on and to score; ``split`` names the scored part."""

    train: Part
    held_out: Part
    split: str = "test"
    raw: tuple[int, ...] = ()  # shape of a sample before preprocessing, where that changes it
    extent: tuple[float, float] | None = None  # its smallest and largest value, where preprocessing changes them

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.train[0].device

    @property
    def classes(self) -> int:
        """Number of classes in the labels of both parts."""
        return 1 + max(int(labels.max()) for _, labels in (self.train, self.held_out))


def extent_of(x: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value."""
    return float(x.min()), float(x.max())


class Place(Output):
    """Where a run reads and writes.

    A training function loads its data here, begins, trains and finishes::

        with Place(settings, Path("runs/mine")) as place:
            with place.reading() as where:
                data = load(settings, **where)
            run = Run(...)
            place.begin(run, data, figures)
            fit(run, data.train, data.held_out, ..., output=place)
            result = place.finish(run, data, accuracy)

    Args:
        settings: the settings of the run.
        out: folder, made if missing, locked until the end; None: nothing is written.
        name: name of the procedure, for the result.
        preset: a line about the settings, printed at the beginning.
        root: folder of the data set.
        download: let torchvision download it.
        device: device of the network and the data.
        resume: resume from the checkpoint in ``out``, which must have the same settings.
        weights: a checkpoint of a run with the same network, to start from its weights; unused when resuming.
        monitor: record the activity of the trained network, as ``monitor_*.png``; see :func:`snnfast.monitor`.
        processes: the processes that train this run together, each on its ``device``.
        progress: progress bar; None: only if standard error is a terminal.
        echo: called with one line for each epoch; None for silence.

    Raises:
        ValueError: there is no such device.
        FileExistsError: ``out`` holds a checkpoint or a result, and ``resume`` is False.
        FileNotFoundError, snnfast.checkpoint.CheckpointError: there is nothing to resume, or it does not fit.
        snnfast_zoo.train.folder.FolderInUseError: another run writes into ``out``.
        OSError: ``out`` cannot be written.
    """

    def __init__(
        self,
        settings: Settings,
        out: Path | None = None,
        *,
        name: str = "",
        preset: str = "",
        root: str | Path | None = None,
        download: bool = False,
        device: torch.device | str = "cpu",
        resume: bool = False,
        weights: str | Path | None = None,
        monitor: bool = False,
        processes: Processes | None = None,
        progress: bool | None = None,
        echo: Callable[[str], object] | None = tqdm.write,
    ) -> None:
        checkpoint = None if out is None else out / CHECKPOINT
        super().__init__(checkpoint, progress, echo, processes=processes or Processes())
        if resume and out is None:
            raise ValueError(f"{settings.name}: resume needs out, the folder of the run, got None")
        self.settings, self.out, self.resume = settings, out, resume
        self.name, self.preset = name, preset
        self.root, self.download, self.device = root, download, present(device, f"{settings.name}: device")
        self.weights, self.monitor = weights, monitor
        self.figures: Figures | None = None
        self._open = ExitStack()

    def __enter__(self) -> Place:
        """Lock the folder; raise errors of a checkpoint before the data are read."""
        if self.out is None:
            return self
        if self.processes.first:
            self._open.enter_context(locked(self.out))
        try:
            if self.resume:
                path = self.out / CHECKPOINT
                stored = read_checkpoint(path, self.settings.name)["settings"]
                same_settings(path, stored, self.settings.plain())
            else:
                refuse_to_replace(self.out / CHECKPOINT, self.out / RESULT)
        except BaseException:
            self._open.close()
            raise
        self.processes.wait()  # all read the folder before the first process writes
        return self

    def __exit__(self, *error: object) -> None:
        """Release the folder."""
        self._open.close()

    @contextmanager
    def reading(self) -> Iterator[dict[str, Any]]:
        """Yield ``root``, ``download`` and ``device`` for loading; the first process downloads before others read."""
        if self.download and not self.processes.first:
            self.processes.wait()
        yield {"root": self.root, "download": self.download and self.processes.first, "device": self.device}
        if self.download and self.processes.first:
            self.processes.wait()

    def begin(self, run: Run, data: Data, figures: Mapping[str, Draw] | None = None) -> None:
        """Resume ``run`` from the checkpoint, or start it; ``figures`` are drawn during the run, by file name."""
        run.settings, run.kind = self.settings.plain(), self.settings.name
        run.data = {
            "shape": list(data.train[0].shape[1:]),
            "raw": list(data.raw or data.train[0].shape[1:]),
            "classes": class_names(self.settings.dataset, data.classes),
            "extent": list(data.extent or extent_of(data.train[0])),
        }
        if self.resume and self.checkpoint is not None:
            run.load(Path(self.checkpoint))
        elif self.weights is not None:
            load_weights(run.model, Path(self.weights).expanduser())
        if self.out is not None and self.processes.first:
            self.figures = Figures(self.out, figures or {})
            self.after_epoch = self.figures.update
            if not self.resume:
                run.save(self.out / CHECKPOINT)
        if not self.resume and self.preset:
            self.say(self.preset)
            if self.settings.dataset == "mnist":
                labels = torch.cat([part[1].flatten().cpu() for part in (data.train, data.held_out)])
                if tuple(labels.bincount().tolist()) not in MNIST:
                    self.say(OTHER_MNIST)

    def draw(self, run: Run) -> None:
        """Draw within an epoch, unless a drawing is recent."""
        if self.figures is not None:
            self.figures.update(run)

    def finish(
        self,
        run: Run,
        data: Data,
        accuracy: float,
        measured: Mapping[str, Any] | None = None,
        remarks: Sequence[str] = (),
        *,
        revival: str = "snnfast.nn.calibrate_",
        watch: Callable[[Tensor], Monitor] | None = None,
    ) -> Result:
        """Save a finished run, draw it, look for silent layers, and write its result.

        Args:
            run: the trained run.
            data: its data.
            accuracy: accuracy on the held-out part, in [0, 1].
            measured: more numbers, by name.
            remarks: lines about them.
            revival: what to try with a silent or saturated layer.
            watch: returns a monitor that recorded the network for some samples; None: hooks on its layers do.
        """
        lines = [*remarks, *self._troubles(run, data, revival, watch)]
        last: dict[str, Any] = {"procedure": self.name, "advice": not_learned(self.settings, run, data)}
        result = Result(self.settings, run, data.split, accuracy, measured or {}, lines, self.out, **last)
        if self.out is not None and self.processes.first:
            run.save(self.out / CHECKPOINT)
            if self.figures is not None:
                self.figures.finish(run)
            result.write()
        if not self.monitor:
            return result
        monitor = (watch or watching(run.model))(data.held_out[0][:WATCHED])
        result = replace(result, activity=monitor.activity())
        if self.out is not None and self.processes.first:
            from snnfast_zoo import visual

            result.write()
            for name, figure in monitor.figures().items():
                visual.save(figure, self.out / f"monitor_{name}.png")
        return result

    def _troubles(self, run: Run, data: Data, revival: str, watch: Callable[[Tensor], Monitor] | None) -> Iterator[str]:
        """Yield a line for every silent or saturated layer of a trained network, with advice."""
        fires = firing_layers(run.model) or any(isinstance(module, SpikeProp) for module in run.model.modules())
        if fires or watch is not None:
            samples, labels = data.held_out
            chosen = torch.linspace(0, len(labels) - 1, min(LOOKED_AT, len(labels))).long()
            monitor = (watch or watching(run.model))(samples[chosen.to(samples.device)])
            for line in monitor.activity().troubles():
                yield f"{line}; try {revival} (docs: Nothing fires)"


def not_learned(settings: Settings, run: Run, data: Data) -> str:
    """Return what to try if the last epoch is nearer to the most frequent class than to all samples; else nothing."""
    last, labels = run.history[-1] if run.history else {}, data.train[1]
    counts = labels[labels >= 0].unique(return_counts=True)[1]
    guess = float(counts.max() / counts.sum())
    # Dropout and augmentation may make training samples harder than held-out ones.
    if "accuracy" not in last or max(last["accuracy"], last.get("held_out_accuracy", 0.0)) >= (1 + guess) / 2:
        return ""
    lr, batch_size = (getattr(settings, name, None) for name in ("lr", "batch_size"))
    ways = [f"--epochs {4 * run.epoch}"]
    ways += [f"--lr {3 * lr:g}"] if lr else []
    ways += [f"--batch-size {batch_size // 4}"] if batch_size and batch_size >= 32 else []
    return (
        f"not learned: {100 * last['accuracy']:.1f} % of the training samples are right after {run.epochs_done}, "
        f"{100 * guess:.1f} % are of one class; try {', '.join(ways)}"
    )


def watching(model: nn.Module) -> Callable[[Tensor], Monitor]:
    """Return a function from samples to a monitor that recorded ``model`` while it ran them."""

    def watch(samples: Tensor) -> Monitor:
        model.eval()
        devices = [samples.device] if samples.is_cuda else []
        with Monitor(model, membranes=4) as monitor, torch.no_grad(), torch.random.fork_rng(devices):
            for batch in samples.split(WATCHED):
                model(batch)
        return monitor

    return watch
