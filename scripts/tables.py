"""Write the tables in README.md and docs/, and a figure, from docs/results.json and benchmarks/results/*.json.

A table is between ``<!-- table: NAME -->`` and ``<!-- end -->``, so that no number is typed twice. Tables of one kind
are described in benchmarks/tables.json: "kind" is a function here, and the rest are its arguments.
``python scripts/tables.py`` writes all of them; with ``--check`` it fails if a page differs.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n)(?:.*?\n)??(<!-- end -->)", re.S)

DESCRIBED = json.loads((ROOT / "benchmarks/tables.json").read_text())
NETWORKS = [tuple(network.values()) for network in DESCRIBED["networks"]]  # label, shape, library
PROCEDURES = json.loads((ROOT / "docs/results.json").read_text())
ENTRIES = [(procedure, row) for procedure in PROCEDURES for row in procedure["rows"]]
GUIDES = {"sequences": "sequence"}  # pages of procedures whose name differs
PAGES = [
    "README.md",
    "docs/results.md",
    "docs/benchmarks.md",
    "benchmarks/notes/speed.md",
    *(
        f"docs/{page}.md"
        for page in (
            *("coming_from_snntorch", "eventprop", "integer_spikes", "own_neuron", "pretrained", "ship", "why_spikes"),
        )
    ),
    *(f"docs/ops/{op}.md" for op in ("adlif", "alif", "delay", "recurrent", "stdp")),
]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; a missing value is a dash."""
    rows = [head, ["---"] * len(head), *([cell or "–" for cell in line] for line in lines)]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return re.sub(r"(?<=\d) (?=(%|×|min|m?s|µs)\b|%|×)|(?<=AMD) (?=EPYC)|(?<=Intel) (?=Xeon)", "\u00a0", text)


# ---- accuracies
def cells(row: dict[str, Any], *names: str) -> list[str]:
    """Return the cells of a row under these names; our accuracy is bold."""
    return [f"**{row[name]}**" if name == "ours" else str(row.get(name) or "") for name in names]


def results() -> str:
    """Return a table for each procedure; a row has its command in a fold."""
    parts, numbers = [], itertools.count(1)
    for procedure in PROCEDURES:
        page = GUIDES.get(procedure["page"], procedure["page"])
        names = ("ours", "paper", "data", "network")
        head = ("", procedure.get("measure", "accuracy"), *names[1:], "run")
        rows = procedure["rows"]
        lines = [(str(next(numbers)), *cells(row, *names), folded(row)) for row in rows]
        parts.append(f"## {procedure['title']}\n\n[Guide]({page}.md)\n\n{table(head, lines)}")
    return "\n\n".join(parts)


def folded(row: dict[str, Any]) -> str:
    """Format a fold: the duration of a run, and inside its command."""
    seeds = f"{row['seeds']} seed{'s' * (row['seeds'] != 1)}"
    shown = ", ".join(filter(None, (seeds, row.get("time"), row.get("processor"))))
    lines = "<br>".join(f"`{line}`" for line in row["command"].split("\n") if line)
    return f"<details><summary>{shown}</summary>{lines}</details>"


def missed_results() -> str:
    found = [(n, p, r) for n, (p, r) in enumerate(ENTRIES, 1) if "missed" in r]
    lines = [f"- {n}, {p['title']}, {r['data']}: {r['ours']}; {r['missed']}." for n, p, r in found]
    wrapped = [textwrap.fill(s, 120, subsequent_indent="  ", break_on_hyphens=False) for s in lines]
    return "\n".join(wrapped)


def short_results() -> str:
    head = ("procedure", "data", "network", "test accuracy", "paper")
    lines = [
        (procedure["title"], row["data"], row["network"], row["ours"], row["paper"])
        for procedure, row in ENTRIES
        if row.get("readme")
    ]
    return table(head, lines)


# ---- speed
class File:
    """Results written by ``python -m benchmarks ... --json``, by default with one thread."""

    def __init__(self, stem: str, threads: str = "1-thread") -> None:
        content = json.loads((ROOT / f"benchmarks/results/{stem}-cpu-{threads}.json").read_text())
        self.rows, self.verdicts, machine = content["rows"], content["verdicts"], content["machine"]
        self.processor = "Intel Xeon" if "Intel" in machine["cpu"] else machine["cpu"]
        if stem.endswith("-avx2"):  # a processor with AVX-512 that is told to use AVX2
            self.processor = self.processor.replace(")", ", AVX2 alone)")
        self.commit = machine["commit"].partition("+")[0][:8]

    @property
    def footer(self) -> str:
        """A line below a table."""
        return f"\n\nOne thread of an {self.processor}, CPU time, commit {self.commit}."

    def found(self, shape: Sequence[int], implementation: str, name: str) -> list[dict[str, Any]]:
        """Return the rows with these names."""
        wanted = (list(shape), implementation, name)
        return [r for r in self.rows if (r["shape"], r["implementation"], r["name"]) == wanted]

    def row(self, shape: Sequence[int], implementation: str, name: str) -> dict[str, Any]:
        """Return the only row with these names; ValueError if there is none."""
        found = self.found(shape, implementation, name)
        if len(found) != 1:
            raise ValueError(f"tables: expected one row {shape, implementation, name}, got {len(found)}")
        return found[0]

    def seconds(self, *row: Any) -> float:
        """Return the minimum over the runs of a row."""
        return self.row(*row)["minimum_seconds"]  # type: ignore[no-any-return]

    def ratio(self, shape: Sequence[int], other: tuple[str, str], ours: tuple[str, str]) -> str:
        """Return the time of the other as a multiple of ours."""
        return f"{short(self.seconds(shape, *other) / self.seconds(shape, *ours))} ×"


def size(shape: Iterable[int]) -> str:
    """Format a shape, for example ``16×64×1024``."""
    return "×".join(map(str, shape))


def short(value: float) -> str:
    """Format with two digits, or all digits before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def duration(seconds: float) -> str:
    unit, factor = next((u, f) for u, f in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if seconds * f >= 1)
    value = seconds * factor
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


JELLY_AND_TORCH = {"spikingjelly": "SpikingJelly", "snntorch": "snnTorch"}
PEERS = {**JELLY_AND_TORCH, "bindsnet": "BindsNET", "brian2": "Brian2 in C++"}


STEP = "training step"


def networks() -> str:
    """Return a table of training steps of whole networks, for batches and one sample, with one thread and with two."""
    files = File("network"), File("network", "threads")
    alone = [(f"{label.rpartition(' ')[0]} 1", (s[0], 1, *s[2:]), p) for label, s, p in NETWORKS]

    def pair(shape: Sequence[int], other: str) -> str:
        one, two = (file.ratio(shape, (other, STEP), ("snnfast", STEP)) for file in files)
        return f"{one.removesuffix(' ×')}, {two}"

    lines = [
        (
            label,
            ", ".join(duration(file.seconds(shape, "snnfast", STEP)) for file in files),
            f"{PEERS[peer]}: {pair(shape, peer)}",
            *(pair(shape, relu) for relu in ("relu", "relu_once")),
        )
        for label, shape, peer in (*NETWORKS, *alone)
    ]
    head = ("a training step", "snnfast", "a peer takes", "ReLUs on T × B images take", "ReLUs once")
    commits = " and ".join(dict.fromkeys(file.commit for file in files))
    threads = "Before the comma with one thread, in CPU time; after it with two, in wall time."
    return f"{table(head, lines)}\n\n{threads} {files[0].processor}, {commits}."


def short_networks() -> str:
    """Return the same for batches with one thread, a number a cell."""
    file, ours, lines = File("network"), ("snnfast", STEP), []
    for label, shape, peer in NETWORKS:
        ratios = (file.ratio(shape, (other, STEP), ours) for other in (peer, "relu_once"))
        lines.append((label, duration(file.seconds(shape, *ours)), PEERS[peer], *ratios))
    return table(("a training step", "snnfast", "a peer", "takes", "ReLUs once take"), lines) + file.footer


def networks_figure(ink: str) -> Figure:
    """Draw the same as bars with text of colour ``ink``, docs/networks-*.svg, for the first page of the site."""
    from matplotlib.figure import Figure

    file = File("network")
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axis = figure.subplots()
    for place, (label, shape, peer) in enumerate(reversed(NETWORKS)):
        ours = file.seconds(shape, "snnfast", STEP)
        theirs = file.seconds(shape, peer, STEP) / ours
        bars = axis.barh((place, place - 0.28), (theirs, 1), 0.26, color=("#9aa0ab", "#2a6fdb"))
        ends = (f"{PEERS[peer]}, {short(theirs)} ×", f"snnfast, {duration(ours)}")
        axis.bar_label(bars, ends, padding=3, size=9, color=ink)
        layers = label.replace("batch norm, max pooling", "max pooling")
        axis.text(0, place + 0.18, layers, size=9, color=ink)
    axis.set_xlim(right=1.35 * axis.dataLim.x1)  # room for the text after the longest bar
    axis.set_ylim(-0.5, len(NETWORKS) - 0.55)
    axis.set_axis_off()
    return figure


def speed(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table with a row per benchmark: the time of snnfast and of others."""
    lines, files = [], []
    for row in rows:
        file, shape, ours = File(row["stem"]), row["shape"], ("snnfast", row["pass"])
        rivals = "; ".join(f"{title} {file.ratio(shape, (name, other), ours)}" for title, name, other in row["beside"])
        lines.append((row["label"], duration(file.seconds(shape, *ours)), rivals))
        files.append(file)
    return table(("what", "snnfast", "beside"), lines) + measured_by(files)


def measured_by(files: Sequence[File]) -> str:
    """Return processor and commit of the rows of a table, once for rows in succession."""
    parts, first = [], 1
    for (processor, commit), group in itertools.groupby(files, lambda file: (file.processor, file.commit)):
        last = first + len(list(group)) - 1
        rows = f"row {first}" if first == last else f"rows {first} to {last}"
        parts.append((processor, f"{rows} of commit {commit}"))
        first = last + 1
    by_processor = itertools.groupby(parts, lambda part: part[0])
    return "\n\n" + ". ".join(f"{name}: {', '.join(text for _, text in group)}" for name, group in by_processor) + "."


def memory() -> str:
    """Peak of a training step, bytes kept a neuron and step after the forward pass, and time, over the steps."""
    file = File("memory")
    names = {"recomputed": "`Recomputed`", "snnfast": "plain layers", **JELLY_AND_TORCH, "jax": "XLA"}
    found = {(r["shape"][0], r["implementation"]): r for r in file.rows if r["name"] == STEP}

    def cell(steps: int, name: str) -> str:
        row = found.get((steps, name))
        if row is None:
            return ""
        saved = row["facts"].get("B kept")
        parts = [f"{row['facts']['peak MB']:,.0f} MB", f"{saved:.1f} B" if saved is not None else ""]
        return ", ".join((*filter(None, parts), duration(row["minimum_seconds"])))

    lines = [(f"{steps:,}", *(cell(steps, name) for name in names)) for steps in dict.fromkeys(s for s, _ in found)]
    return table(("steps", *names.values()), lines) + file.footer


def compared(stem: str, works: Sequence[dict[str, Any]], columns: dict[str, tuple[str, str]], fact: str = "") -> str:
    """Return a table with a row per work: our time, its limits, and other implementations and passes.

    A column is an implementation and a pass, in which ``{}`` stands for that of the row; our passes are shown as times,
    others as multiples of ours. ``fact`` is a fact to show with them, whose first word is its unit.
    """
    file, lines = File(stem), []
    verdicts = [[v for v in file.verdicts if (v["shape"], v["pass"]) == (w["shape"], w["pass"])] for w in works]

    def shown(work: dict[str, Any], implementation: str, name: str) -> str:
        found = file.found(work["shape"], implementation, name.format(work["pass"]))
        if not found:
            return ""
        (row,) = found
        if implementation == "snnfast":
            text = duration(row["minimum_seconds"])
        else:
            text = file.ratio(work["shape"], (implementation, row["name"]), ("snnfast", work["pass"]))
        return f"{text}, {row['facts'][fact]:,.0f} {fact.partition(' ')[0]}" if fact else text

    for work, judged in zip(works, verdicts):
        limits = [f"{v['ratio'].removesuffix(', 1 thread').replace('us ', 'µs ')}: {with_limit(v)}" for v in judged]
        others = [shown(work, *column) for column in columns.values()]
        limit = ["<br>".join(limits)] if any(verdicts) else []
        lines.append((work["label"], shown(work, "snnfast", "{}"), *limit, *others))
    return table(("", "snnfast", *(["limits"] if any(verdicts) else []), *columns), lines) + file.footer


def times(stem: str, columns: dict[str, tuple[str, str]]) -> str:
    """Return a table of times, a row per shape; a column is an implementation and a pass."""
    file = File(stem)
    shapes = dict.fromkeys(tuple(row["shape"]) for row in file.rows)
    lines = [(size(s), *(duration(file.seconds(s, *key)) for key in columns.values())) for s in shapes]
    return table(("x", *columns), lines) + file.footer


def ported() -> str:
    """Return a table of training steps of networks: in a peer, ported, and written for this package."""
    file, lines = File("network"), []
    for label, shape, peer in NETWORKS:
        times = [file.seconds(shape, implementation, STEP) for implementation in (peer, "ported", "snnfast")]
        ratios = f"{times[0] / times[1]:.1f}", f"{times[1] / times[2]:.2f}"
        lines.append((label, PEERS[peer], *map(duration, times), *ratios))
    head = ("network", "peer", "as it is", "ported", "written for snnfast")
    return table((*head, "as it is / ported", "ported / written for it"), lines)


def with_limit(verdict: dict[str, Any]) -> str:
    """Format a ratio and its limit."""
    missed = ", **missed**" if verdict.get("kept") is False else ""
    return f"{short(verdict['value'])} ({goal(verdict)}){missed}"


def goal(verdict: dict[str, Any]) -> str:
    sign, limit = verdict["limit"].split()
    return f"at {'most' if sign == '<=' else 'least'} {limit}"


def missed_speed() -> str:
    """Return a table of limits that the stored runs exceed."""
    lines, end = [], "-cpu-1-thread.json"
    for path in sorted((ROOT / "benchmarks/results").glob(f"*{end}")):
        file = File(stem := path.name.removesuffix(end))
        for v in file.verdicts:
            if v.get("kept") is False:
                op = re.sub("-(xeon|zen3|avx2)$", "", stem)
                other, _, ours = v["ratio"].partition(" / ")
                if not ours or "copies" in ours:  # "clones" and "delay / copies of x"
                    other, ours = "snnfast", "a copy of the input"
                name, ours = PEERS.get(other, other.replace("_", " ")), {"snnfast": "ours"}.get(ours, ours)
                times = f"{name}: {short(v['value'])} times as long as {ours}"
                label = f"{op}, {v['pass'].replace('+', ' and ').replace('_', ' ')}"
                lines.append((label, size(v["shape"]), times, goal(v), file.processor, file.commit))
    return table(("what", "x", "takes", "goal", "processor", "commit"), lines)


def deployed(case: str, file: str = "deploy") -> str:
    """Return the networks of a case of ``python -m benchmarks deploy`` and what they cost."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.deploy import HEADER, DeployedRow

    rows = json.loads((ROOT / f"benchmarks/results/{file}.json").read_text())["rows"]
    return table(HEADER[1:], [DeployedRow(**row).cells[1:] for row in rows if row["case"] == case])


def pretrained() -> str:
    """Return the networks that come with the package."""
    entries = json.loads((ROOT / "snnfast_zoo/papers/weights/weights.json").read_text())
    head = ("name", "data", "network", "accuracy", "command")
    lines = [
        (f"`{name}`", entry["data"], entry["network"], f"{entry['accuracy']} %", f"`{entry['command']}`")
        for name, entry in entries.items()
    ]
    return table(head, lines)


def own_neurons(columns: dict[str, str]) -> str:
    """Return a table of neurons from step functions: time, and multiples of it elsewhere."""
    file, lines = File("own-neuron"), []
    (shape,) = {tuple(row["shape"]) for row in file.rows}
    for name in ("klif", "two_compartments", "resonator"):
        ours = file.row(shape, "snnfast", name)
        others = (file.ratio(shape, (other, name), ("snnfast", name)) for other in columns)
        calls = (ours["facts"][f"s {name}, {when}"] for when in ("first call", "cached"))
        lines.append((f"`{name}`", duration(ours["minimum_seconds"]), *others, *map(duration, calls)))
    head = ("neuron", "snnfast", *columns.values(), "first call", "from the cache")
    lif = duration(file.seconds(shape, "lif", "lif"))
    return f"{table(head, lines)}{file.footer} `x` is {size(shape)}; LIF takes {lif}."


def generated(name: str) -> str:
    """Return the C++ steps that the compiler generates for a neuron of examples/own_neurons.py."""
    sys.path[:0] = [str(ROOT), str(ROOT / "examples")]
    import own_neurons
    import torch

    from snnfast.compiler.variant import source_of, variant_of

    op = getattr(own_neurons, name)
    source = source_of(op, variant_of(op.check(torch.zeros(1, 1))))
    steps = re.findall(r"^  template <Reset R, [^\n]*\n  static SNNFAST_HD C step.*?^  }\n", source, re.S | re.M)
    return "```cpp\n" + textwrap.dedent("".join(steps)) + "```"


KINDS: dict[str, Callable[..., str]] = {
    function.__name__: function for function in (compared, deployed, generated, own_neurons, speed, times)
}
TABLES: dict[str, Callable[[], str]] = {
    "results": results,
    "missed-results": missed_results,
    "short-results": short_results,
    "short-networks": short_networks,
    "networks": networks,
    "pretrained": pretrained,
    "missed-speed": missed_speed,
    "memory": memory,
    "ported": ported,
    **{name: partial(KINDS[how.pop("kind")], **how) for name, how in DESCRIBED["tables"].items()},
}


def written(page: str) -> str:
    """Return the text of a page with new tables."""
    return BLOCK.sub(lambda m: m[1] + TABLES[m[2]]() + "\n" + m[3], (ROOT / page).read_text())


def main() -> None:
    check = "--check" in sys.argv
    for page in PAGES:
        text = written(page)
        if text == (ROOT / page).read_text():
            continue
        if check:
            sys.exit(f"tables: {page} differs from the JSON; run python scripts/tables.py")
        (ROOT / page).write_text(text)
    if not check:
        import matplotlib

        rc = {"svg.fonttype": "none", "svg.hashsalt": "snnfast", "font.family": "sans-serif"}
        with matplotlib.rc_context(rc):  # reproducible files, with the font of the page
            for theme, ink in (("light", "#22262e"), ("dark", "#d5d9e0")):
                file = ROOT / f"docs/networks-{theme}.svg"
                networks_figure(ink).savefig(file, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
