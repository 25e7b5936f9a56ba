"""The page that a run ends with: what ran, what failed, what was reached beside what was predicted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import job

# Tensors of x's size that a pass must move.
MOVED = {"forward": 2, "backward": 3, "forward+backward": 5}
SCANS, OWN = ("neurons", "others"), ("lif", "delay", "recurrent")
ITEM = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Stages = dict[str, dict[str, Any]]


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def results(stages: Stages, stage: str) -> list[dict[str, Any]]:
    """Return the results of the finished parts of a stage."""
    parts = stages.get(stage, {}).get("parts", {}).values()
    return [part["result"] for part in parts if part["state"] == "done"]


def size(shape: Iterable[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.4g}"


def what_ran(stages: Stages) -> str:
    rows = []
    for stage, found in stages.items():
        parts = list(found["parts"].values())
        states = [part["state"] for part in parts]
        minutes = sum(part.get("seconds", 0) for part in parts) / 60
        counts = [states.count(state) for state in ("done", "failed", "skipped")]
        rows.append((stage, *counts, len(parts) - sum(counts), f"{minutes:.1f}"))
    return table(("stage", "done", "failed", "skipped", "not run", "minutes"), rows)


def what_failed(stages: Stages) -> str:
    rows = []
    for stage, found in stages.items():
        for name, part in found["parts"].items():
            if part["state"] == "done":
                continue
            error = part.get("error", part["state"]).partition("\n")[0]
            rows.append((stage, name, error.replace("|", "/")[:160]))
            result = part.get("result")
            failed = result.get("failed", {}) if isinstance(result, dict) else {}
            for file, tests in failed.items():  # of the suite
                words = f"{len(tests)} tests, {next(iter(tests))}".replace("|", "/")
                rows.append((stage, file, words))
    return table(("stage", "part", "error"), rows) if rows else "Nothing."


def copies(rows: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Bytes a second of a copy, by shape and dtype."""
    return {
        (size(row["shape"]), row["dtype"]): moved(row, 2) / row["seconds"]["copy"]
        for row in rows
        if "copy" in row["seconds"]
    }


def moved(row: dict[str, Any], tensors: int) -> int:
    """Bytes of so many tensors of x's size."""
    return tensors * ITEM[row["dtype"]] * math.prod(row["shape"])


def shares(stages: Stages) -> list[dict[str, Any]]:
    """Of each pass of our neurons: seconds, bytes a second, and the share of a copy's."""
    rows = [row for stage in SCANS for row in results(stages, stage)]
    copied = copies(rows)
    found = []
    for row in rows:
        bandwidth = copied.get((size(row["shape"]), row["dtype"]))
        for name, seconds in row["seconds"].items():
            ours = row["implementation"] == "snnfast" and row["benchmark"] != "recurrent"
            if ours and name in MOVED:
                rate = moved(row, MOVED[name]) / seconds
                found.append(
                    {
                        **{key: row[key] for key in ("benchmark", "shape", "dtype")},
                        **{"pass": name, "seconds": seconds, "rate": rate},
                        "share": rate / bandwidth if bandwidth else None,
                    }
                )
    return found


def neurons(stages: Stages) -> str:
    rows = []
    for found in shares(stages):
        cells = (found["share"], predicted(stages, found))
        rows.append(
            (
                *(found["benchmark"], found["pass"], size(found["shape"]), found["dtype"]),
                milliseconds(found["seconds"]),
                f"{found['rate'] / 1e9:.0f}",
                *("-" if cell is None else f"{100 * cell:.0f} %" for cell in cells),
            )
        )
    header = (
        "neuron",
        "pass",
        "[T, N]",
        "dtype",
        "ms",
        "GB/s",
        "of a copy",
        "bound by machine code",
    )
    return table(header, rows)


def predicted(stages: Stages, found: dict[str, Any]) -> float | None:
    """The share of its card's bandwidth that machine code allows a pass; None for a card or a kernel not known."""
    from benchmarks import budget

    here = next(iter(results(stages, "build")), {})
    cards = (card for name, card in budget.CARDS.items() if name in (here.get("gpu") or ""))
    card = next(cards, None)
    if card is None or here.get("multiprocessors") != card.multiprocessors:
        return None
    of = (found["benchmark"], found["pass"], found["dtype"], found["shape"])
    seconds = budget.least(budget.kept(), *of, card)
    return seconds and found["rate"] * found["seconds"] / seconds / card.bytes_a_second


def passes(
    stages: Stages, chosen: Sequence[str], benchmarks: Sequence[str], column: str
) -> dict[tuple[str, ...], dict[str, float]]:
    """Seconds of each pass, for each value of ``column``."""
    cells: dict[tuple[str, ...], dict[str, float]] = {}
    for row in (row for stage in chosen for row in results(stages, stage)):
        if row["benchmark"] in benchmarks and row["implementation"] != "clone":
            for name, seconds in row["seconds"].items():
                key = (row["benchmark"], size(row["shape"]), row["dtype"], name)
                cells.setdefault(key, {})[row[column]] = seconds
    return cells


def beside(stages: Stages, chosen: Sequence[str], benchmarks: Sequence[str], column: str) -> str:
    """Milliseconds of each pass, with one column for each value of ``column``."""
    cells = passes(stages, chosen, benchmarks, column)
    names = list(dict.fromkeys(name for found in cells.values() for name in found))
    lines = [
        (*key, *(milliseconds(found.get(name)) for name in names))
        for key, found in cells.items()
        if len(found) > 1 or len(names) == 1
    ]
    return table(("benchmark", "shape", "dtype", "pass", *(f"{name}, ms" for name in names)), lines)


def hottest(stages: Stages) -> str:
    kernels = [kernel for found in results(stages, "profile") for kernel in found["kernels"]]
    if not kernels:
        return "Not measured."
    header = [name.replace("_", " ") for name in kernels[0]]
    cells = (
        [f"{v:.4g}" if isinstance(v, float) else v or "-" for v in k.values()] for k in kernels
    )
    return table(header, cells)


def text(stages: Stages) -> str:
    environment = next(iter(results(stages, "build")), {})
    card = environment.get("gpu") or "no GPU"
    where = ", ".join(
        f"{name} {environment[name]}"
        for name in ("driver", "torch", "nvcc", "cores", "multiprocessors")
        if environment.get(name)
    )
    rehearsed = any(found["rehearsed"] for found in stages.values())
    parts = [
        f"**{card}**: {where}.",
        "A rehearsal on the CPU: no figure here is one of a GPU." if rehearsed else "",
        f"### What ran\n\n{what_ran(stages)}",
        f"### What failed, or was not run\n\n{what_failed(stages)}",
        f"### Neurons\n\n{neurons(stages)}",
        "### Scans beside others\n\n" + beside(stages, SCANS, OWN, "implementation"),
        f"### Networks\n\n{beside(stages, ('network',), ('network',), 'implementation')}",
        "### Plasticity\n\n" + beside(stages, ("plasticity",), plastic(stages), "device"),
        against_auto(stages),
        f"### The kernels that take longest\n\n{hottest(stages)}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def plastic(stages: Stages) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row["benchmark"] for row in results(stages, "plasticity")))


def against_auto(stages: Stages) -> str:
    """Where ``--device auto`` takes the slower device: it takes the CPU for plasticity (snnfast/backend/devices.py)."""
    cells = passes(stages, ("plasticity",), plastic(stages), "device")
    faster = [
        f"{key[0]} {key[1]} {key[3]} ({found['cpu'] / found['cuda']:.3g} times)"
        for key, found in cells.items()
        if found.keys() >= {"cpu", "cuda"} and found["cuda"] < found["cpu"]
    ]
    if not any(found.keys() >= {"cpu", "cuda"} for found in cells.values()):
        return ""
    found = ", ".join(faster) or "in none of them"
    return f"`--device auto` takes the CPU for plasticity. The GPU was faster: {found}."


def write(folder: Path, docs: Path | None = None) -> str:
    """``page.md`` in the folder; with ``docs`` that file's measured part, too.

    Raises:
        ValueError: for ``docs`` of a rehearsal.
    """
    stages: Stages = job.results(folder)
    made = text(stages)
    (folder / "page.md").write_text(made)
    if docs is not None:
        if any(found["rehearsed"] for found in stages.values()):
            raise ValueError(
                f"{docs.name} is made from measurements on a GPU, and this was a rehearsal"
            )
        before, _, rest = docs.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        docs.write_text(f"{before}{BEGIN}\n{made}{END}{after}")
    return made
