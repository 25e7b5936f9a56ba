"""Write the tables in README.md and docs/, and a figure, from docs/results.json and benchmarks/results/*.json.

A table is between ``<!-- table: NAME -->`` and ``<!-- end -->``, so that no number is typed twice.
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

PROCEDURES = json.loads((ROOT / "docs/results.json").read_text())
ENTRIES = [(procedure, row) for procedure in PROCEDURES for row in procedure["rows"]]
GUIDES = {"sequences": "sequence"}  # pages of procedures whose name differs
PAGES = [
    "README.md",
    "docs/results.md",
    "docs/benchmarks.md",
    "benchmarks/notes/speed.md",
    *(f"docs/{page}.md" for page in ("coming_from_snntorch", "eventprop", "own_neuron", "ship", "why_spikes")),
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


NETWORKS = [
    ("conv 32-32, batch norm, max pooling; T = 4, batch 128", (4, 128, 1, 28, 28), "spikingjelly"),
    ("12C5-MP2-64C5-MP2-10; T = 50, batch 64", (50, 64, 1, 28, 28), "snntorch"),
    ("SEW ResNet block, 64 channels; T = 4, batch 32", (4, 32, 64, 16, 16), "spikingjelly"),
    ("784-1000-10; T = 25, batch 128", (25, 128, 784), "snntorch"),
]
LIF_SHAPES = ((16, 64, 1024), (32, 32, 4096), (100, 32, 4096))
JELLY_AND_TORCH = {"spikingjelly": "SpikingJelly", "snntorch": "snnTorch"}
PEERS = {**JELLY_AND_TORCH, "bindsnet": "BindsNET", "brian2": "Brian2 in C++"}


def networks() -> str:
    """Return a table of training steps of whole networks, for batches and one sample, with one thread and with two."""
    files, name = (File("network"), File("network", "threads")), "training step"
    alone = [(f"{label.rpartition(' ')[0]} 1", (s[0], 1, *s[2:]), p) for label, s, p in NETWORKS]

    def pair(shape: Sequence[int], other: str) -> str:
        one, two = (file.ratio(shape, (other, name), ("snnfast", name)) for file in files)
        return f"{one.removesuffix(' ×')}, {two}"

    lines = [
        (
            label,
            ", ".join(duration(file.seconds(shape, "snnfast", name)) for file in files),
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
    file, name = File("network"), "training step"
    lines = [
        (
            label,
            duration(file.seconds(shape, "snnfast", name)),
            PEERS[peer],
            *(file.ratio(shape, (other, name), ("snnfast", name)) for other in (peer, "relu_once")),
        )
        for label, shape, peer in NETWORKS
    ]
    return table(("a training step", "snnfast", "a peer", "takes", "ReLUs once take"), lines) + file.footer


def networks_figure(ink: str) -> Figure:
    """Draw the same as bars with text of colour ``ink``, docs/networks-*.svg, for the first page of the site."""
    from matplotlib.figure import Figure

    file, name = File("network"), "training step"
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axis = figure.subplots()
    for place, (label, shape, peer) in enumerate(reversed(NETWORKS)):
        ours = file.seconds(shape, "snnfast", name)
        theirs = file.seconds(shape, peer, name) / ours
        bars = axis.barh((place, place - 0.28), (theirs, 1), 0.26, color=("#9aa0ab", "#2a6fdb"))
        ends = (f"{PEERS[peer]}, {short(theirs)} ×", f"snnfast, {duration(ours)}")
        axis.bar_label(bars, ends, padding=3, size=9, color=ink)
        layers = label.replace("batch norm, max pooling", "max pooling")
        axis.text(0, place + 0.18, layers, size=9, color=ink)
    axis.set_xlim(right=1.35 * axis.dataLim.x1)  # room for the text after the longest bar
    axis.set_ylim(-0.5, len(NETWORKS) - 0.55)
    axis.set_axis_off()
    return figure


def speed() -> str:
    """Return a table with a row per benchmark: the time of snnfast and of the next best."""
    lines: list[tuple[str, ...]] = []
    files: list[File] = []

    def add(stem: str, label: str, shape: Sequence[int], ours: str, *others: tuple[str, str, str]) -> None:
        file = File(stem)
        mine = ("snnfast", ours)
        beside = "; ".join(f"{title} {file.ratio(shape, (name, row), mine)}" for title, name, row in others)
        time = duration(file.seconds(shape, *mine))
        lines.append((label, time, beside))
        files.append(file)

    for shape in LIF_SHAPES:
        row = "forward+backward"
        others = [("tuned loop", "tuned_loop", row), ("SpikingJelly", "spikingjelly", row)]
        add("lif", f"LIF {size(shape)}, forward and backward", shape, row, *others)
    row = "training step"
    for label, shape, peer in NETWORKS:
        other = (PEERS[peer], peer, row)
        add("network", f"training step of {label}", shape, row, other)
    label, shape = "training step of SpikeLinear 1600×1024×1024, 5 % spikes", (1600, 1024, 1024)
    other = ("three dense products", "products", "products")
    add("spike-linear", label, shape, "5 %", other)
    others = [("snnTorch", "snntorch", "step"), ("PyTorch here", "pytorch", "step")]
    label = "a step of 784-256-10 as C, one sample, 13 % spikes"
    add("export-c", label, (784, 256, 10), "step", *others)
    for count in (100, 400, 1600, 6400):
        label = f"an image to 784-{count} neurons that learn by STDP, 250 steps"
        add("diehl-cook", label, (250, 784, count), "presentation", ("BindsNET", "bindsnet", "presentation"))
    add(
        "spikeprop",
        "SpikeProp 785-400, times and gradient, a sample",
        (64, 785, 1, 400),
        "forward+backward",
        ("matrix products on a grid", "matrix_products", "forward+backward"),
    )
    add(
        "bp-stdp-network",
        "BP-STDP 784-500-10, an image",
        (50, 100, 784, 500, 10),
        "fit",
        ("dense products alone", "products", "products"),
    )
    row = "constant current"
    for label, shape in (("12c5-2s-64c5-2s-10", (100, 100)), ("784-1200-1200-10", (100, 100, 1200, 1200))):
        others = [("SpikingJelly", "spikingjelly", row), ("the ANN's forward", "ann", "ann")]
        label = f"a step of {label}, converted, batch 100"
        add("conversion", label, shape, row, *others)
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
    file, step = File("memory"), "training step"
    names = {"recomputed": "`Recomputed`", "snnfast": "plain layers", **JELLY_AND_TORCH, "jax": "XLA"}
    found = {(r["shape"][0], r["implementation"]): r for r in file.rows if r["name"] == step}

    def cell(steps: int, name: str) -> str:
        row = found.get((steps, name))
        if row is None:
            return ""
        saved = row["facts"].get("B kept")
        parts = [f"{row['facts']['peak MB']:,.0f} MB", f"{saved:.1f} B" if saved is not None else ""]
        return ", ".join((*filter(None, parts), duration(row["minimum_seconds"])))

    lines = [(f"{steps:,}", *(cell(steps, name) for name in names)) for steps in dict.fromkeys(s for s, _ in found)]
    return table(("steps", *names.values()), lines) + file.footer


Work = tuple[Sequence[int], str]  # a shape and a pass


def compared(stem: str, works: dict[str, Work], columns: dict[str, tuple[str, str]], fact: str = "") -> str:
    """Return a table with a row per work: our time, its limits, and other implementations and passes.

    A column is an implementation and a pass, in which ``{}`` stands for that of the row; our passes are shown as times,
    others as multiples of ours. ``fact`` is a fact to show with them, whose first word is its unit.
    """
    file, lines = File(stem), []
    limited = any(v["shape"] == list(s) and v["pass"] == name for s, name in works.values() for v in file.verdicts)

    def shown(work: Work, implementation: str, name: str) -> str:
        shape, ours = work
        found = file.found(shape, implementation, name.format(ours))
        if not found:
            return ""
        (row,) = found
        if implementation == "snnfast":
            text = duration(row["minimum_seconds"])
        else:
            text = file.ratio(shape, (implementation, row["name"]), ("snnfast", ours))
        return f"{text}, {row['facts'][fact]:,.0f} {fact.partition(' ')[0]}" if fact else text

    for label, work in works.items():
        verdicts = [v for v in file.verdicts if (tuple(v["shape"]), v["pass"]) == work]
        limits = [f"{v['ratio'].removesuffix(', 1 thread').replace('us ', 'µs ')}: {with_limit(v)}" for v in verdicts]
        others = [shown(work, *column) for column in columns.values()]
        lines.append((label, shown(work, "snnfast", "{}"), *(["<br>".join(limits)] if limited else []), *others))
    return table(("", "snnfast", *(["limits"] if limited else []), *columns), lines) + file.footer


def times(stem: str, columns: dict[str, tuple[str, str]]) -> str:
    """Return a table of times, a row per shape; a column is an implementation and a pass."""
    file = File(stem)
    shapes = dict.fromkeys(tuple(row["shape"]) for row in file.rows)
    lines = [(size(s), *(duration(file.seconds(s, *at)) for at in columns.values())) for s in shapes]
    return table(("x", *columns), lines) + file.footer


def ported() -> str:
    """Return a table of training steps of networks: in a peer, ported, and written for this package."""
    file, lines = File("network"), []
    for label, shape, peer in NETWORKS:
        times = [file.seconds(shape, implementation, "training step") for implementation in (peer, "ported", "snnfast")]
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
                other, _, beside = v["ratio"].partition(" / ")
                if not beside or "copies" in beside:  # "clones" and "delay / copies of x"
                    other, beside = "snnfast", "a copy of the input"
                name, beside = PEERS.get(other, other.replace("_", " ")), {"snnfast": "ours"}.get(beside, beside)
                times = f"{name}: {short(v['value'])} times as long as {beside}"
                label = f"{op}, {v['pass'].replace('+', ' and ').replace('_', ' ')}"
                lines.append((label, size(v["shape"]), times, goal(v), file.processor, file.commit))
    return table(("what", "x", "takes", "goal", "processor", "commit"), lines)


def deployed(case: str) -> str:
    """Return the networks of a case of ``python -m benchmarks deploy`` and what they cost."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.deploy import HEADER, DeployedRow

    rows = json.loads((ROOT / "benchmarks/results/deploy.json").read_text())["rows"]
    return table(HEADER[1:], [DeployedRow(**row).cells[1:] for row in rows if row["case"] == case])


def own_neurons() -> str:
    """Return a table of neurons from step functions: time, and multiples of it elsewhere."""
    file = File("own-neuron")
    (shape,) = {tuple(row["shape"]) for row in file.rows}
    columns = {
        "plain_loop": "loop over `x[t]`",
        "tuned_loop": "loop over `x.unbind()`",
        "spikingjelly": "SpikingJelly's FlexSN",
        "jax": "XLA",
    }
    lines = []
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


FORWARD_BACKWARD = "forward+backward"
LEARNING = {f"784-{count}": ((250, 784, count), "presentation") for count in (100, 400, 1600, 6400)}
LEARNING_COLUMNS = {
    "one in a call": ("snnfast", "alone"),
    "with encoding": ("snnfast", "with encoding"),
    "without learning": ("snnfast", "without learning"),
    "BindsNET": ("bindsnet", "{}"),
    "reference": ("reference_loop", "{}"),
}
TABLES: dict[str, Callable[[], str]] = {
    "results": results,
    "missed-results": missed_results,
    "short-results": short_results,
    "short-networks": short_networks,
    "networks": networks,
    "speed": speed,
    "missed-speed": missed_speed,
    "delay": partial(
        times,
        "delay",
        {
            "copy": ("copy", "copy"),
            "forward": ("snnfast", "forward"),
            "forward and backward": ("snnfast", FORWARD_BACKWARD),
        },
    ),
    "recurrent": partial(
        times,
        "recurrent",
        {
            "recurrent LIF": ("snnfast", FORWARD_BACKWARD),
            "adLIF": ("adlif", FORWARD_BACKWARD),
            "with delays of 0 to 10": ("delays", FORWARD_BACKWARD),
            "LIF without recurrence": ("lif", FORWARD_BACKWARD),
            "loop over `x[t]`": ("plain_loop", FORWARD_BACKWARD),
            "loop tuned by hand": ("tuned_loop", FORWARD_BACKWARD),
        },
    ),
    **{
        neuron: partial(
            times, neuron, {f"`{neuron}`": ("snnfast", FORWARD_BACKWARD), "`lif`": ("lif", FORWARD_BACKWARD)}
        )
        for neuron in ("adlif", "alif")
    },
    "memory": memory,
    "loops": partial(
        compared,
        "loops",
        {
            label: (shape, "training step")
            for label, shape in (
                ("tutorial 5, 784-1000-10; 25, 128", (25, 128, 784)),
                ("the same; 25, 4", (25, 4, 784)),
                ("tutorial 6, 12C5-MP2-64C5-MP2-10; 25, 64", (25, 64, 1, 28, 28)),
                ("40-64-32-5, recurrent, synaptic and leaky neurons; 100, 16", (100, 16, 40)),
            )
        },
        {"snnTorch": ("snntorch", "{}"), "`sequences=False`": ("steps", "{}")},
    ),
    "spike-linear": partial(
        compared,
        "spike-linear",
        {f"{p} % spike": ((1600, 1024, 1024), f"{p} %") for p in (2, 5, 10, 20, 30)},
        {"three products": ("products", "products"), "input fixed": ("snnfast", "{}, input fixed")},
    ),
    "diehl-cook": partial(compared, "diehl-cook", LEARNING, LEARNING_COLUMNS),
    "diehl-cook-conductance": partial(
        compared,
        "diehl-cook-conductance",
        {"784-100": ((700, 784, 100), "presentation")},
        {"reference": ("reference_loop", "{}")},
    ),
    "eventprop": partial(
        compared,
        "eventprop",
        {
            "100 inputs, 100 neurons": ((64, 100, 4, 100), FORWARD_BACKWARD),
            "700 inputs, 200 neurons": ((64, 700, 4, 200), FORWARD_BACKWARD),
        },
        {
            "surrogate, 60 steps of 1 ms": ("steps_of_1_ms", "{}"),
            "surrogate, 600 steps of 0.1 ms": ("steps_of_0.1_ms", "{}"),
        },
        "KB saved",
    ),
    "stdp": partial(
        compared,
        "stdp",
        {
            "784 → 400, T = 250, B = 32, every step": ((250, 32, 784, 400), "step"),
            "one update for the sequence": ((250, 32, 784, 400), "sequence"),
        },
        {
            "outer products a step and sample": ("outer_products", "{}"),
            "SpikingJelly's `STDPLearner`": ("spikingjelly", "{}"),
            "BindsNET's `PostPre`": ("bindsnet", "{}"),
            "matrix products": ("matrix_products", "{}"),
        },
    ),
    **{f"deploy-{case}": partial(deployed, case) for case in ("mnist-1200", "qtdb", "mnist-conv", "cifar10")},
    "ported": ported,
    "own-neuron": own_neurons,
    "steps-klif": partial(generated, "klif"),
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
