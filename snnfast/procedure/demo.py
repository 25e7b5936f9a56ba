"""``snnfast demo``: every procedure on data in the package, and how fast the fused layer is here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import backend, visual
from snnfast.conversion import conversion_report
from snnfast.nn import LIF
from snnfast.procedure import (
    ann,
    bp_stdp,
    conversion,
    spikeprop,
    spikeprop_figures,
    stbp,
    stdp,
    stdp_readout,
)
from snnfast.train import evaluate, fit

TIMED_SHAPE = (32, 64, 1024)


@dataclass(frozen=True)
class Row:
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
) -> list[Row]:
    """Runs the demo of every procedure, writes figures and ``summary.md`` into ``out``.

    Args:
        out: folder, made if missing; files of an earlier demo are replaced.
        seed: seed of everything random.
        device: where it runs.
        progress: progress bar; see :func:`snnfast.train.fit`.
        echo: takes the lines of the summary.

    Returns:
        One row a procedure.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = [demo(out, seed, device, progress) for demo in DEMOS]
    lines = [*table(rows), "", speed(device)]
    (out / "summary.md").write_text("\n".join(lines) + "\n")
    for line in lines:
        echo(line)
    echo(f"\nFigures and this table: {out.resolve()}")
    return rows


def demo_stbp(
    out: Path, seed: int, device: torch.device | str, progress: bool | None = None
) -> Row:
    """STBP's convolutional network on the 8x8 digits."""
    settings = stbp.preset("digits", seed=seed)
    training = stbp.prepare(settings, device)
    images = stbp.load(settings, device=device)
    figures = stbp.Figures(out, images.test)
    start = time.perf_counter()
    with one_thread():
        fit(
            training,
            images.train,
            images.held_out,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            loss=stbp.loss,
            augment=stbp.augmentation(settings),
            progress=progress,
            echo=None,
            after_epoch=figures.update,
        )
        figures.finish(training)
    seconds = time.perf_counter() - start
    score = evaluate(training.model, images.test, loss=stbp.loss)
    network = f"conv 32-32-128-10, {settings.time_interval} steps"
    return Row("STBP (Wu 2018)", "digits 8x8", network, score.accuracy, seconds)


def demo_spikeprop(
    out: Path, seed: int, device: torch.device | str, progress: bool | None = None
) -> Row:
    """SpikeProp's network for Iris."""
    settings = spikeprop.preset("iris", seed=seed)
    parts = spikeprop.load(settings, device=device)
    start = time.perf_counter()
    with one_thread():
        training = spikeprop.prepare(settings, parts.train)
        figures = spikeprop_figures.Figures(out / "spikeprop", training, parts.test)
        spikeprop.train_on(settings, training, parts, progress=progress, echo=None)
        figures.finish(training)
    seconds = time.perf_counter() - start
    score = evaluate(
        training.model,
        parts.test,
        loss=spikeprop.objective(settings),
        decide=spikeprop.decision(settings),
    )
    network = f"{parts.train[0].shape[1]}-10-3, {settings.terminals} delays"
    return Row("SpikeProp (Bohte 2002)", "Iris", network, score.accuracy, seconds)


def demo_bp_stdp(
    out: Path, seed: int, device: torch.device | str, progress: bool | None = None
) -> Row:
    """BP-STDP's network on the 8x8 digits."""
    settings = bp_stdp.preset("digits", seed=seed)
    parts = bp_stdp.load(settings, device=device)
    start = time.perf_counter()
    with one_thread():
        training = bp_stdp.prepare(settings, parts.train[0].shape[1], device)
        figures = bp_stdp.Figures(out / "bp-stdp", parts.test)
        bp_stdp.train_on(settings, training, parts, progress=progress, echo=None)
        figures.finish(training)
    seconds = time.perf_counter() - start
    score = evaluate(
        training.model, parts.test, loss=bp_stdp.objective(settings), decide=bp_stdp.decide
    )
    network = f"64-{settings.hidden[0]}-10, {settings.time_interval} steps"
    return Row("BP-STDP (Tavanaei & Maida 2019)", "digits 8x8", network, score.accuracy, seconds)


def demo_stdp(
    out: Path, seed: int, device: torch.device | str, progress: bool | None = None
) -> Row:
    """STDP's network on the 8x8 digits, which it learns without labels."""
    settings = stdp.Settings(seed=seed)
    images = stdp.load(settings, device=device)
    folder = out / "stdp"
    start = time.perf_counter()
    with one_thread():
        training = stdp.prepare(settings, len(images.train[0]), device)
        figures = stdp.Figures(folder)
        stdp.fit(training, images.train, progress=progress, echo=None, after_call=figures.update)
        figures.finish(training)
        seconds = time.perf_counter() - start
        trained = stdp_readout.Trained(training, images)
        stdp_readout.assign(trained, folder, progress=progress)
        result = stdp_readout.infer(trained, folder, progress=progress)
    network = f"64-{settings.neurons}, {training.model.settings.num_steps} steps"
    return Row("STDP (Diehl & Cook 2015)", "digits 8x8", network, result.accuracy["mean"], seconds)


def demo_conversion(
    out: Path, seed: int, device: torch.device | str, progress: bool | None = None
) -> Row:
    """A ReLU network learns the 8x8 digits and becomes a spiking one."""
    settings = ann.preset("cnn", "digits", seed=seed)
    images = ann.load(settings, device=device)
    start = time.perf_counter()
    with one_thread():
        training = ann.prepare(settings, device)
        fit(
            training,
            images.train,
            images.held_out,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            loss=F.cross_entropy,
            progress=progress,
            echo=None,
        )
        chosen = conversion.Settings(seed=seed)
        network = conversion.calibrated(chosen, training.model, images.train, progress=progress)
        seconds = time.perf_counter() - start
        report = conversion_report(training.model, network, [images.test], progress=progress)
    visual.save(report.figure(), out / "conversion.png")
    network_and_steps = f"conv 12-64-10, {report.steps[-1]} steps"
    return Row(
        "Conversion (Diehl 2015)", "digits 8x8", network_and_steps, report.accuracy[-1], seconds
    )


DEMOS = (demo_stbp, demo_spikeprop, demo_bp_stdp, demo_stdp, demo_conversion)


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small gain little by more threads, and lose much where threads wait for a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def table(rows: list[Row]) -> list[str]:
    """The rows as a Markdown table, aligned for the terminal."""
    cells = [
        ["procedure", "data", "network", "held-out accuracy", "training"],
        *(
            [r.procedure, r.data, r.network, f"{100 * r.accuracy:.2f} %", f"{r.seconds:.1f} s"]
            for r in rows
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells)]
    cells.insert(1, ["-" * width for width in widths])
    return ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in cells]


def speed(device: torch.device | str = "cpu") -> str:
    """A sentence on the fused layer beside the same layer as a plain PyTorch loop, measured now."""
    device = torch.device(device)
    x = torch.randn(TIMED_SHAPE, device=device).requires_grad_()
    layer = LIF(decay=0.2, decay_input=False, v_threshold=0.5, surrogate="rectangle")
    chosen, why = backend.choose("lif", x, layer.surrogate)
    if chosen == "reference":
        return f"No fused layer runs here: {why}."
    fused, loop = [], []
    with one_thread():
        # In turn, and the fastest of each: what other programs take away is neither's.
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
