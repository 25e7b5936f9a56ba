"""Conversion of measurements to rows, and of rows to tables, JSON and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import compact, machine, neurons
from benchmarks.timing import Measurement, Task


@dataclass
class Row:
    """A pass of an implementation; ``floors`` and ``per_ours`` are ratios of minima."""

    task: Task
    name: str
    minimum_seconds: float
    median_seconds: float
    runs: int
    floors: float | None
    per_ours: float | None
    bytes_moved: int | None
    copy_bandwidth_fraction: float | None
    facts: dict[str, float]
    version: str
    note: str


Results = dict[Task, Measurement]


def rows(results: Results, floor: str) -> list[Row]:
    found = []
    for task, measurement in results.items():
        base = results.get(replace(task, implementation=floor), Measurement())
        ours = results.get(replace(task, implementation=neurons.OURS), Measurement())
        for name, seconds in measurement.seconds.items():
            minimum = min(seconds)
            floor_seconds = base.minimum(floor) or base.minimum(name)
            ours_seconds = ours.minimum(name)
            moved, copy = measurement.bytes_moved.get(name), base.minimum("copy")
            fraction = None
            if moved and copy:
                fraction = moved / minimum / (base.bytes_moved["copy"] / copy)
            found.append(
                Row(
                    task=task,
                    name=name,
                    minimum_seconds=minimum,
                    median_seconds=statistics.median(seconds),
                    runs=len(seconds),
                    floors=minimum / floor_seconds if floor_seconds else None,
                    per_ours=minimum / ours_seconds if ours_seconds else None,
                    bytes_moved=moved,
                    copy_bandwidth_fraction=fraction,
                    facts=measurement.facts,
                    version=measurement.version,
                    note=measurement.note,
                )
            )
    return found


def shape_text(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def progress(task: Task, measurement: Measurement) -> str:
    where = f"{task.implementation} {shape_text(task.shape)}, {task.threads} threads"
    if measurement.skipped:
        return f"{where}: skipped, {measurement.skipped}"
    passes = measurement.seconds.items()
    return f"{where}: " + ", ".join(f"{name} {milliseconds(min(s))} ms" for name, s in passes)


def cell(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return format(value, ".3f" if value >= 1 else ".3g")


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    lines = [tuple(header), *(tuple(line) for line in lines)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)


def timing_table(found: list[Row], floor: str) -> str:
    header = ["shape", "threads", "pass", "implementation", "min ms", "median ms", f"x {floor}"]
    header += ["x snnfast", "MB", "of copy", "facts", "note"]
    lines = [
        (
            shape_text(row.task.shape),
            str(row.task.threads),
            row.name,
            f"{row.task.implementation} {row.version}".strip(),
            milliseconds(row.minimum_seconds),
            milliseconds(row.median_seconds),
            cell(row.floors),
            cell(row.per_ours),
            cell(row.bytes_moved / 1e6 if row.bytes_moved else None, ".1f"),
            cell(row.copy_bandwidth_fraction),
            ", ".join(f"{value:.4f} {name}" for name, value in row.facts.items()),
            row.note,
        )
        for row in found
    ]
    return table(header, lines)


def verdict(
    shape: tuple[int, ...], name: str, ratio: str, value: float | None, sign: str, limit: float
) -> dict[str, Any]:
    holds = None if value is None else value <= limit if sign == "<=" else value >= limit
    return {"shape": shape, "pass": name, "ratio": ratio, "value": value, "limit": f"{sign} {limit:g}", "kept": holds}


def verdict_table(judged: list[dict[str, Any]]) -> str:
    words = {True: "pass", False: "FAIL", None: "not measured"}
    return table(
        ("shape", "pass", "ratio", "value", "limit", ""),
        [
            (shape_text(v["shape"]), v["pass"], v["ratio"], cell(v["value"]), v["limit"], words[v["kept"]])
            for v in judged
        ],
    )


def write_json(path: Path, device: str, results: Results, found: list[Row], judged: list[dict[str, Any]]) -> None:
    skipped = [
        {**asdict(task), "reason": measurement.skipped} for task, measurement in results.items() if measurement.skipped
    ]
    rows = [asdict(row) for row in found]
    document = {
        "machine": machine.describe(device),
        "rows": [row.pop("task") | row for row in rows],
        "verdicts": judged,
        "skipped": skipped,
    }
    compact.write(path, document)


def plot(path: Path, found: list[Row], title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ours = [row for row in found if row.per_ours is not None]
    shapes = list(dict.fromkeys(row.task.shape for row in ours))
    names = list(dict.fromkeys(row.name for row in ours))
    bars = max(1, len(ours) // max(1, len(shapes) * len(names)))
    figure, axes = pyplot.subplots(
        max(1, len(shapes)),
        max(1, len(names)),
        figsize=(5 * len(names) + 1, (0.25 * bars + 0.9) * len(shapes) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for line, shape in zip(axes, shapes):
        for axis, name in zip(line, names):
            rows = [row for row in ours if (row.task.shape, row.name) == (shape, name)]
            milliseconds = [1e3 * row.minimum_seconds for row in rows]
            labels = [f"{row.task.implementation}, {row.task.threads} threads" for row in rows]
            mine = [row.task.implementation == neurons.OURS for row in rows]
            drawn = axis.barh(labels, milliseconds, color=["C1" if m else "C0" for m in mine])
            axis.bar_label(drawn, fmt="%.3g", padding=2)
            axis.set(xscale="log", title=f"{shape_text(shape)}, {name}, ms")
            axis.set_xlim(min(milliseconds) / 3, max(milliseconds) * 4)
            axis.xaxis.set_minor_formatter("")
            axis.invert_yaxis()
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
