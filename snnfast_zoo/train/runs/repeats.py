"""Repeated runs of a procedure over seeds, folds and settings: accuracies and their spread."""

from __future__ import annotations

import itertools
import json
import statistics
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from snnfast_zoo.train import Run

from ..checkpoint import CheckpointError, read_checkpoint, same_settings
from ..processes import Processes
from .folder import write_json
from .settings import Settings

RESULTS = "results.json"


@dataclass(frozen=True)
class Trial:
    """A finished run.

    Attributes:
        accuracy: accuracy on the held-out part, in [0, 1].
        converged: cycles until XOR was learned; None if it was not, and for other data.
        seconds: time of training; None: an equal part of the time of the runs that were trained together.
    """

    accuracy: float
    converged: int | None = None
    seconds: float | None = None


class Unfinished:
    """Checkpoint of one of many runs while it trains; a short run has none.

    Args:
        out: the folder of the runs.
        settings: the settings of this run.
        every: seconds between two checkpoints.
    """

    def __init__(self, out: Path, settings: Settings, every: float) -> None:
        key = json.dumps(settings.plain(), sort_keys=True)
        self._path = out / f"unfinished-{zlib.crc32(key.encode()):08x}.pt"
        self._every, self._saved = every, time.monotonic()

    def load(self, run: Run) -> None:
        """Resume from the checkpoint, if there is one."""
        if self._path.exists():
            run.load(self._path)

    def save(self, run: Run) -> None:
        """Write the checkpoint, unless the last one is recent."""
        if time.monotonic() - self._saved >= self._every:
            run.save(self._path)
            self._saved = time.monotonic()

    def end(self) -> None:
        """Delete the checkpoint."""
        self._path.unlink(missing_ok=True)


def unfinished(out: Path) -> list[Path]:
    """Return the checkpoints of unfinished runs in ``out``."""
    return sorted(out.glob("unfinished-*.pt"))


@dataclass(frozen=True)
class Repeats:
    """Finished runs.

    Attributes:
        settings: the settings of the runs, except seed, fold and the swept settings.
        runs: one dictionary per run: ``seed``, ``fold``, ``accuracy`` on the held-out part in [0, 1], ``seconds``, and
            ``converged``, the cycles until XOR was learned, None if it was not or for other data. In a sweep also
            ``sweep``, the swept settings of the run.
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

    def by_sweep(self) -> list[tuple[dict[str, Any], Repeats]]:
        """Return pairs of swept settings and their runs; without a sweep one pair, no settings and all runs."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for run in self.runs:
            groups.setdefault(json.dumps(run.get("sweep", {})), []).append(run)
        return [(json.loads(key), replace(self, runs=runs)) for key, runs in groups.items()]

    def summary(self) -> str:
        """Return the result in a few lines, in a sweep one for each combination of settings."""
        groups = self.by_sweep()
        lines = []
        for swept, repeats in groups:
            named = " ".join(f"{name}={value}" for name, value in swept.items())
            lines += [f"{named}: {line}" if named else line for line in repeats._lines()]
        lines.append(f"{sum(r['seconds'] for r in self.runs):.0f} s; {self.out / RESULTS}")
        return "\n".join(lines)

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
    trials: Callable[..., Sequence[Trial]],
    settings: Settings,
    seeds: Sequence[int],
    out: Path,
    *,
    sweep: Sequence[Mapping[str, Any]] = ({},),
    at_once: int = 1,
    resume: bool = False,
    processes: Processes | None = None,
    progress: bool | None = None,
) -> Repeats:
    """Train for every combination of a sweep, every seed and, with ``settings.folds``, every fold.

    A seed fixes weights and order, and with folds also how the data are split. ``out / "results.json"`` is written
    after every call of ``trials``.

    Args:
        trials: trains with a list of settings of at most ``at_once`` runs; also takes ``progress``.
        settings: settings of all runs; ``seed``, ``fold`` and ``split_seed`` are replaced.
        seeds: at least one.
        out: folder, made if missing.
        sweep: settings that replace those of all runs, one set of runs after the other.
        at_once: runs that are trained together.
        resume: skip the runs that have results in ``out``, and resume those that were interrupted; both must have the
            same settings.
        processes: divide the runs among processes, and gather the results; the first process writes. None: train the
            runs one after the other.
        progress: show a progress bar; None: only if standard error is a terminal.

    Raises:
        ValueError: no seeds, or raised by ``trials``.
        FileExistsError: ``out`` holds results or an unfinished run, and ``resume`` is False.
        FileNotFoundError, snnfast.checkpoint.CheckpointError: there is nothing to resume, or it does not fit.
    """
    if not seeds:
        raise ValueError("repeat: seeds must hold at least one seed, got none")
    path = out / RESULTS
    cut = {f.name for f in fields(settings)} & {"fold", "split_seed"}
    folds = _folds(settings)
    plain = replace(settings, seed=0, **dict.fromkeys(cut, cast(Any, 0))).plain()
    begun = unfinished(out)
    if not resume:
        refuse_to_replace(path, *begun)
    varied = {"seed", *cut, *(name for changes in sweep for name in changes)}
    for file in begun:
        _same(file, read_checkpoint(file)["settings"], plain, varied)
    before = _read(path, plain) if resume and (path.exists() or not begun) else []
    known = {(json.dumps(run.get("sweep", {})), run["seed"], run["fold"]): run for run in before}
    variants = {json.dumps(changes): replace(settings, **changes) for changes in sweep}
    wanted = [(swept, s, fold) for swept in variants for s in seeds for fold in range(folds or 1)]
    remaining = [key for key in wanted if key not in known]
    group = processes or Processes()
    group.wait()  # all read the folder before the first process writes
    writes = group.rank == 0
    shown = progress if writes else False
    bar = tqdm(
        total=len(wanted),
        initial=len(wanted) - len(remaining),
        unit="run",
        disable=None if shown is None else not shown,
        leave=False,
        dynamic_ncols=True,
    )
    with bar:
        for begin in range(0, len(remaining), group.size * at_once):
            keys = remaining[begin : begin + group.size * at_once]
            share = -(-len(keys) // group.size)
            first = group.rank * share
            rows = _run(partial(trials, progress=shown), variants, keys[first : first + share], cut)
            known |= dict(zip(keys, itertools.chain(*group.gather(rows))))
            bar.update(len(keys))
            if writes:
                write_json(path, {"settings": plain, "runs": list(known.values())})
    return Repeats(settings, [known[key] for key in wanted], out)


def _run(
    trials: Callable[[list[Any]], Sequence[Trial]],
    variants: Mapping[str, Settings],
    keys: Sequence[tuple[str, int, int]],
    cut: set[str],
) -> list[dict[str, Any]]:
    """Train the runs of ``keys`` and return their rows of the results, each with its part of the time."""
    runs = []
    for swept, seed, fold in keys:
        settings = variants[swept]
        values: dict[str, Any] = {"fold": fold, "split_seed": seed if _folds(settings) else 0}
        runs.append(replace(settings, seed=seed, **{name: values[name] for name in cut}))
    start = time.perf_counter()
    finished = trials(runs) if runs else ()
    seconds = (time.perf_counter() - start) / max(len(keys), 1)
    return [
        {
            **({} if swept == "{}" else {"sweep": json.loads(swept)}),
            **{"seed": seed, "fold": fold, **asdict(trial)},
            "seconds": seconds if trial.seconds is None else trial.seconds,
        }
        for (swept, seed, fold), trial in zip(keys, finished, strict=True)
    ]


def combinations(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return a sweep over all combinations of the values of some settings."""
    return [dict(zip(values, chosen)) for chosen in itertools.product(*values.values())]


def refuse_to_replace(*paths: Path) -> None:
    """Raise FileExistsError if one of the files that a run would replace exists."""
    for path in paths:
        if path.exists():
            raise FileExistsError(
                f"{path} exists: resume it (resume=True, --resume), or give another folder (out, --out)"
            )


def _same(path: Path, stored: Mapping[str, Any], current: Mapping[str, Any], but: Iterable[str]) -> None:
    """Raise CheckpointError if settings differ in more than ``but``."""
    stored, current = (
        {name: value for name, value in settings.items() if name not in but} for settings in (stored, current)
    )
    same_settings(path, stored, current)


def _folds(settings: Settings) -> int | None:
    return getattr(settings, "folds", None)


def _read(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"there are no results {path}")
    try:
        content = json.loads(path.read_text())
        before, runs = dict(content["settings"]), list(content["runs"])
        for k, run in enumerate(runs):
            missing = {"seed", "fold", *(f.name for f in fields(Trial))} - run.keys()
            if missing:
                raise ValueError(f"run {k} lacks {', '.join(sorted(missing))}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} holds no results: {error}") from error
    same_settings(path, before, settings)
    return runs
