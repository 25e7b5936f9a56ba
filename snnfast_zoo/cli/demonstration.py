"""``snnfast demo``: every procedure on data in the package, and the speed of the fused layer on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.conversion import conversion_report
from snnfast.files.atomic import replacing
from snnfast.files.table import markdown
from snnfast.nn import LIF
from snnfast_zoo import visual
from snnfast_zoo.papers import procedures as procedure
from snnfast_zoo.papers.conversion import convert as conversion
from snnfast_zoo.train.place import CHECKPOINT
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result

TIMED_SHAPE = (32, 64, 1024)


@dataclass(frozen=True)
class DemoRow:
    """A line of the demo's table; ``accuracy`` on held-out data, in [0, 1]."""

    procedure: str
    data: str
    network: str
    accuracy: float
    seconds: float


def run(
    out: Path,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool | None = None,
    echo: Callable[[str], object] = print,
) -> list[DemoRow]:
    """Run the demo of every procedure; write figures and ``summary.md`` into ``out``.

    Args:
        out: folder, made if missing; files of an earlier demo are replaced.
        seed: seed of all random numbers.
        device: device of the training.
        progress: progress bar; see :func:`snnfast.train.fit`.
        echo: called with each line of the summary.

    Returns:
        One row per procedure.
    """
    out.mkdir(parents=True, exist_ok=True)
    how: dict[str, Any] = {"device": device, "progress": progress}
    rows = [*(shown(demo, out, seed, **how) for demo in DEMOS), converted(out, seed, **how)]
    summary = f"{table(rows)}\n\n{speed(device)}"
    with replacing(out / "summary.md") as new:
        new.write_text(f"{summary}\n")
    for line in summary.splitlines():
        echo(line)
    echo(f"\nFigures and this table: {out.resolve()}")
    return rows


@dataclass(frozen=True)
class Demo:
    """A procedure, and its row of the table: title, and network with names of settings in braces."""

    procedure: Procedure[Any]
    title: str
    network: str


DEMOS = (
    Demo(procedure.stbp, "STBP (Wu 2018)", "conv 32-32-128-10, {num_steps} steps"),
    Demo(procedure.spikeprop, "SpikeProp (Bohte 2002)", "50-10-3, {terminals} delays"),
    Demo(procedure.bp_stdp, "BP-STDP (Tavanaei & Maida 2019)", "64-{hidden[0]}-10, {num_steps} steps"),
    Demo(procedure.stdp, "STDP (Diehl & Cook 2015)", "64-{neurons}, 250 steps"),
)


def shown(demo: Demo, out: Path, seed: int, **how: Any) -> DemoRow:
    """Train with the preset of the default data set; write into a folder in ``out`` named after the procedure."""
    result = trained(demo.procedure, out, seed, **how)
    settings = result.settings
    network = demo.network.format(**settings.plain())
    data = {"digits": "digits 8x8", "iris": "Iris"}[settings.dataset]
    return DemoRow(demo.title, data, network, result.accuracy, result.seconds)


def trained(procedure: Procedure[Any], out: Path, seed: int, **how: Any) -> Result:
    """Train on the default data set."""
    folder = out / procedure.name
    (folder / CHECKPOINT).unlink(missing_ok=True)
    with one_thread():
        return procedure(seed=seed, out=folder, echo=None, **how)


def converted(out: Path, seed: int, *, device: torch.device | str, progress: bool | None) -> DemoRow:
    """Train a ReLU network on the 8x8 digits and convert it to a spiking network."""
    ann = procedure.diehl2015
    result = trained(ann, out, seed, device=device, progress=progress)
    data = ann.load(result.settings, device=device)
    start = time.perf_counter()
    with one_thread():
        chosen = conversion.ConversionSettings(seed=seed)
        network = conversion.calibrated(chosen, result.model, data.train, progress=progress)
        seconds = result.seconds + time.perf_counter() - start
        report = conversion_report(result.model, network, [data.held_out], progress=progress)
    visual.save(report.figure(), out / "conversion.png")
    steps = f"conv 12-64-10, {report.steps[-1]} steps"
    return DemoRow("Conversion (Diehl 2015)", "digits 8x8", steps, report.accuracy[-1], seconds)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: small networks gain little from more, and lose much when threads wait for a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def table(rows: list[DemoRow]) -> str:
    """Format the rows as a Markdown table, aligned for the terminal."""
    head = ["procedure", "data", "network", "held-out accuracy", "training"]
    cells = [[r.procedure, r.data, r.network, f"{100 * r.accuracy:.2f} %", f"{r.seconds:.1f} s"] for r in rows]
    return markdown(head, cells)


def speed(device: torch.device | str = "cpu") -> str:
    """Measure the fused layer and the same layer as a plain PyTorch loop; return the comparison as a sentence."""
    device = torch.device(device)
    x = torch.randn(TIMED_SHAPE, device=device).requires_grad_()
    layer = LIF(decay=0.2, decay_input=False, v_threshold=0.5, surrogate="rectangle")
    chosen, why = backend.choose("lif", x, layer.surrogate)
    if chosen == "reference":
        return f"No fused layer runs here: {why}."
    fused, loop = [], []
    with one_thread():
        # Alternate, and take the fastest of each, to exclude the load of other programs.
        for _ in range(5):
            fused.append(_seconds(layer, x))
            with backend.use("reference"):
                loop.append(_seconds(layer, x))
    T, B, N = TIMED_SHAPE
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "1 CPU thread"
    return (
        f"Fused LIF layer vs plain PyTorch loop, forward and backward: "
        f"{min(loop) / min(fused):.1f} x faster here, {1e3 * min(fused):.2f} ms against "
        f"{1e3 * min(loop):.2f} ms (T={T}, batch {B}, {N} neurons, float32, {where})."
    )


def _seconds(layer: LIF, x: Tensor) -> float:
    grad = torch.ones_like(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    torch.autograd.grad(layer(x), x, grad)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start
