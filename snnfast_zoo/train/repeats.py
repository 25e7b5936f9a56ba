"""Repeated runs of a procedure over seeds and folds: accuracies and their spread."""

from __future__ import annotations

import json
import statistics
import time
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from .checkpoint import CheckpointError, read_checkpoint, same_settings
from .folder import locked, refuse_to_replace, write_json
from .place import Place
from .procedure import Procedure
from .processes import Processes
from .run import Run
from .settings import Settings

RESULTS = "results.json"
SAVE_EVERY = 30.0  # seconds between two checkpoints of one of many runs
ROW = {"seed", "fold", "accuracy", "converged", "seconds"}


class OneOfMany(Place):
    """Place of one of many runs: a checkpoint while it trains, if it takes long; no figures, no result.

    Args:
        settings: the settings of this run.
        folder: the folder of the runs.
        **where: as for :class:`Place`.
    """

    def __init__(self, settings: Settings, folder: Path, **where: Any) -> None:
        super().__init__(settings, echo=None, **where)
        key = json.dumps(settings.plain(), sort_keys=True)
        self.checkpoint = folder / f"unfinished-{zlib.crc32(key.encode()):08x}.pt"
        self.resume, self._saved = self.checkpoint.exists(), time.monotonic()

    def save(self, run: Run) -> None:
        """Write the checkpoint, unless the last one is recent."""
        if time.monotonic() - self._saved >= SAVE_EVERY:
            super().save(run)
            self._saved = time.monotonic()

    def __exit__(self, *error: object) -> None:
        """Delete the checkpoint of a finished run."""
        if error[0] is None:
            Path(cast(Path, self.checkpoint)).unlink(missing_ok=True)


def unfinished(out: Path) -> list[Path]:
    """Return the checkpoints of unfinished runs in ``out``."""
    return sorted(out.glob("unfinished-*.pt"))


@dataclass(frozen=True)
class Repeats:
    """Finished runs.

    Attributes:
        settings: the settings of the runs, except seed and fold.
        runs: one dictionary per run: ``seed``, ``fold``, ``accuracy`` on the held-out part in [0, 1], ``seconds``, and
            ``converged``, the cycles until XOR was learned, None if it was not or for other data.
        out: folder of results.json.
    """

    settings: Settings
    runs: list[dict[str, Any]]
    out: Path

    def by_seed(self) -> dict[int, float]:
        """Return the accuracy of each seed, the mean over its folds."""
        seeds = sorted({run["seed"] for run in self.runs})
        accuracies = {s: [run["accuracy"] for run in self.runs if run["seed"] == s] for s in seeds}
        return {seed: statistics.fmean(values) for seed, values in accuracies.items()}

    def summary(self) -> str:
        """Return the result in a few lines."""
        return "\n".join([*self._lines(), f"{sum(r['seconds'] for r in self.runs):.0f} s; {self.out / RESULTS}"])

    def _lines(self) -> list[str]:
        scores = [100 * a for a in self.by_seed().values()]
        folds = _folds(self.settings)
        result = f"{self.settings.held_out} accuracy {statistics.fmean(scores):.2f} %"
        if len(scores) > 1:
            over = f", {folds} folds each" if folds else ""
            result += (
                f" (standard deviation {statistics.stdev(scores):.2f}), "
                f"mean over {len(scores)} seeds{over}: {' '.join(f'{s:.1f}' for s in scores)}"
            )
        else:
            result += f", 1 seed, mean over {folds} folds" if folds else ", 1 seed"
        lines = [result]
        if self.settings.learns_xor:
            cycles = sorted(r["converged"] for r in self.runs if r["converged"] is not None)
            lines.append(f"{len(cycles)} of {len(self.runs)} seeds learned XOR within {self.settings.epochs} cycles")
            if cycles:
                nine_tenths = cycles[max(0, -(-9 * len(cycles) // 10) - 1)]
                lines[-1] += (
                    f": median {statistics.median(cycles):g}, nine of ten within {nine_tenths}, "
                    f"the slowest {cycles[-1]}"
                )
        return lines


def repeat(
    procedure: Procedure[Any],
    settings: Settings,
    seeds: Sequence[int],
    out: Path,
    *,
    resume: bool = False,
    processes: Processes | None = None,
    progress: bool | None = None,
    **where: Any,
) -> Repeats:
    """Train for every seed and, with ``settings.folds``, every fold.

    A seed fixes weights and order, and with folds also how the data are split. ``out / "results.json"`` is written
    after every run, of every process.

    Args:
        procedure: the procedure.
        settings: settings of all runs; ``seed``, ``fold`` and ``split_seed`` are replaced.
        seeds: at least one.
        out: folder, made if missing.
        resume: skip the runs that have results in ``out``, and resume those that were interrupted; both must have the
            same settings.
        processes: divide the runs among processes, and gather the results; the first process writes. None: train the
            runs one after the other.
        progress: show a progress bar; None: only if standard error is a terminal.
        **where: ``root``, ``download`` and ``device`` of :class:`Place`.

    Raises:
        ValueError: no seeds.
        FileExistsError: ``out`` holds results or an unfinished run, and ``resume`` is False.
        FileNotFoundError, snnfast.checkpoint.CheckpointError: there is nothing to resume, or it does not fit.
    """
    if not seeds:
        raise ValueError("repeat: seeds must hold at least one seed, got none")
    group = processes or Processes()
    path = out / RESULTS
    cut = {f.name for f in fields(settings)} & {"fold", "split_seed"}
    plain = replace(settings, seed=0, **dict.fromkeys(cut, cast(Any, 0))).plain()
    folds = _folds(settings)
    with locked(out) if group.first else nullcontext():
        begun = unfinished(out)
        if not resume:
            refuse_to_replace(path, *begun)
        for file in begun:
            stored = read_checkpoint(file)["settings"]
            same_settings(file, {**stored, **{name: plain[name] for name in ("seed", *cut)}}, plain)
        before = _read(path, plain) if resume and (path.exists() or not begun) else []
        known = {(run["seed"], run["fold"]): run for run in before}
        wanted = [(seed, fold) for seed in seeds for fold in range(folds or 1)]
        remaining = [key for key in wanted if key not in known]
        group.wait()  # all read the folder before the first process writes
        shown = progress if group.first else False
        hidden = None if shown is None else not shown
        done = len(wanted) - len(remaining)
        with tqdm(total=len(wanted), initial=done, unit="run", disable=hidden, leave=False, dynamic_ncols=True) as bar:
            for begin in range(0, len(remaining), group.size):
                keys = remaining[begin : begin + group.size]
                row = None
                if group.rank < len(keys):
                    seed, fold = keys[group.rank]
                    values = {"fold": fold, "split_seed": seed if folds else 0}
                    chosen = replace(settings, seed=seed, **{name: cast(Any, values[name]) for name in cut})
                    with OneOfMany(chosen, out, progress=shown, **where) as place:
                        result = procedure.train(chosen, place)
                    numbers = {"converged": result.measured.get("converged"), "seconds": result.seconds}
                    row = {"seed": seed, "fold": fold, "accuracy": result.accuracy, **numbers}
                known |= {(run["seed"], run["fold"]): run for run in group.gather(row) if run is not None}
                bar.update(len(keys))
                if group.first:
                    write_json(path, {"settings": plain, "runs": list(known.values())})
    return Repeats(settings, [known[key] for key in wanted], out)


def _folds(settings: Settings) -> int | None:
    return getattr(settings, "folds", None)


def _read(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"there are no results {path}")
    try:
        content = json.loads(path.read_text())
        before, runs = dict(content["settings"]), list(content["runs"])
        for k, run in enumerate(runs):
            missing = ROW - run.keys()
            if missing:
                raise ValueError(f"run {k} lacks {', '.join(sorted(missing))}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} holds no results: {error}") from error
    same_settings(path, before, settings)
    return runs
