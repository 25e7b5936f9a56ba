"""A training run: everything that changes while it trains, saved in a checkpoint and restored bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from .checkpoint import CheckpointError, read_checkpoint, same_settings, write_checkpoint
from .processes import Processes
from .score import Score


@dataclass
class Run:
    """A training run: everything that changes while it trains, which is the content of a checkpoint.

    Attributes:
        model: maps images ``[B, ...]`` to scores ``[B, classes]``.
        optimizer: steps once per batch; None for a rule that changes the weights itself.
        scheduler: steps once per epoch; None for a constant learning rate.
        clip: the largest norm of the gradient over all parameters; a larger gradient is scaled down to it. None: no
            limit.
        precision: ``torch.bfloat16`` runs convolutions and products under autocast.
        settings: plain values that determine the run; a checkpoint resumes only with equal settings.
        kind: a few words that its checkpoints store, to tell them from those of other procedures.
        score: counts over the batches of the current epoch.
        epoch: epochs done.
        history: one dictionary per epoch; see :func:`fit`.
        data: shape of the samples and names of their classes, for :func:`snnfast.load`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None = None
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    clip: float | None = None
    precision: torch.dtype = torch.float32
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "run"
    score: Score = field(default_factory=Score)
    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    data: Mapping[str, Any] = field(default_factory=dict)

    _stateful = ("model", "optimizer", "scheduler", "score")  # saved by state_dict

    @property
    def epochs_done(self) -> str:
        """The number of epochs done, as text."""
        return "1 epoch" if self.epoch == 1 else f"{self.epoch} epochs"

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically: ``path`` holds the old or the new file at any moment."""
        parts = {name: getattr(self, name) for name in self._stateful}
        content = {
            **{name: None if part is None else part.state_dict() for name, part in parts.items()},
            **{"kind": self.kind, "settings": dict(self.settings), "data": dict(self.data)},
            **{"epoch": self.epoch, "history": self.history},
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        write_checkpoint(path, content)

    def load(self, path: Path) -> None:
        """Restore the run from the checkpoint ``path``, random-number state included.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is not a checkpoint of such a run, or its settings differ.
        """
        checkpoint = read_checkpoint(path, self.kind)
        try:
            same_settings(path, checkpoint["settings"], self.settings)
            for name in self._stateful:
                part = getattr(self, name)
                if part is not None:
                    part.load_state_dict(checkpoint[name])
            torch.set_rng_state(checkpoint["rng"])
            if torch.cuda.is_available() and checkpoint["rng_cuda"]:
                # A run may resume with fewer GPUs.
                torch.cuda.set_rng_state_all(checkpoint["rng_cuda"][: torch.cuda.device_count()])
            self.epoch, self.history = checkpoint["epoch"], checkpoint["history"]
        except CheckpointError:
            raise
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} does not fit this run: {error}") from error


@dataclass
class Output:
    """Where a run writes, and the processes that train it.

    Attributes:
        checkpoint: file written after every epoch; None: none.
        progress: show a progress bar; None: only if standard error is a terminal.
        echo: called with one line for each epoch; None for silence.
        after_epoch: called after every epoch, for example to draw.
        processes: the processes that train the run together; the first one writes and prints.
    """

    checkpoint: str | Path | None = None
    progress: bool | None = None
    echo: Callable[[str], object] | None = tqdm.write
    after_epoch: Callable[[Run], object] | None = None
    processes: Processes = field(default_factory=Processes)

    def end_epoch(self, run: Run, title: str, row: dict[str, float]) -> None:
        """Add the row of an epoch to the history of a run; print, save and draw it."""
        run.history.append(row)
        run.epoch += 1
        self.say(f"{title}: {describe(row)}")
        self.save(run)

    def save(self, run: Run) -> None:
        """Save and draw a run after an epoch."""
        if self.processes.first:
            if self.checkpoint is not None:
                run.save(Path(self.checkpoint))
            if self.after_epoch is not None:
                self.after_epoch(run)

    def say(self, line: str) -> None:
        """Print a line."""
        if self.echo is not None and self.processes.first:
            self.echo(line)


def describe(row: Mapping[str, float]) -> str:
    """Return a row of the history as text."""
    names = {"accuracy": "training", "held_out_accuracy": "held out"}
    shown = [f"loss {row['loss']:.4f}"] if "loss" in row else []
    shown += [f"{name} {100 * row[key]:.2f} %" for key, name in names.items() if key in row]
    if "skipped" in row:
        shown.append(f"{row['skipped']} steps skipped, gradient not finite")
    return ", ".join([*shown, f"{row['seconds']:.1f} s"])
