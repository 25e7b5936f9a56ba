"""Result of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnfast.monitoring import Activity

from .folder import write_json
from .run import Run
from .settings import Settings

RESULT = "result.json"


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        settings: the settings of the run.
        run: model and history.
        split: the part that was scored, "test" or "validation"; never the test part with ``settings.validate``.
        accuracy: the accuracy on that part, in [0, 1].
        measured: further numbers, by name.
        remarks: lines of the summary.
        out: folder of its files; None if there are none.
        activity: activity of the network for the first 500 held-out samples; None unless asked for.
        procedure: name of the procedure; empty: that of the settings.
        advice: last line of the summary, about a run that did not learn its training samples; empty for others.
    """

    settings: Settings
    run: Run
    split: str
    accuracy: float
    measured: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    out: Path | None = None
    activity: Activity | None = None
    procedure: str = ""
    advice: str = ""

    @property
    def model(self) -> nn.Module:
        """The trained network."""
        return self.run.model

    @property
    def seconds(self) -> float:
        """Time of training and scoring, over all epochs, without interruptions."""
        return sum(row["seconds"] for row in self.run.history)

    def write(self) -> None:
        """Write ``result.json``, if the run has a folder."""
        if self.out is not None:
            numbers = {
                "procedure": self.procedure or self.settings.name,
                "settings": self.run.settings,
                "split": self.split,
                "accuracy": self.accuracy,
                **self.measured,
                **({} if self.activity is None else {"activity": self.activity.as_dict()}),
                "seconds": round(self.seconds, 3),
                "threads": torch.get_num_threads(),
                "history": self.run.history,
            }
            write_json(self.out / RESULT, numbers)

    def summary(self) -> str:
        """Return the result in a few lines."""
        cycles = self.measured.get("converged")
        learned = "" if cycles is None else f", learned after {cycles} cycles"
        after = f"after {self.run.epochs_done}{learned}, {self.seconds:.1f} s"
        lines = [f"{self.split} accuracy {100 * self.accuracy:.2f} % {after}", *self.remarks]
        if self.activity is not None:
            lines += ["", self.activity.table(), ""]
        if self.out is not None:
            shape = list(self.run.data.get("raw", ()))
            samples = "IMAGES" if len(shape) == 3 else f"FILE.npz, samples {shape}"
            lines.append(f"{self.out}: {', '.join(files(self.out))}")
            lines.append(f"use it: snnfast infer {self.out} {samples}; in Python snnfast.load({str(self.out)!r})")
        return "\n".join([*lines, self.advice] if self.advice else lines)


def files(folder: Path) -> list[str]:
    """Return the names of the files in the folder of a run."""
    return sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
