"""Memory and time of a training step over long sequences, ``T x B x N``: three layers of N LIF neurons, and ten.

``snnfast`` is the network of plain layers, ``recomputed`` the same in :class:`snnfast.nn.Recomputed`; JAX recomputes
parts of up to 64 steps, too. ``peak MB`` is the largest memory of the process during a step minus its memory before,
which includes the input. ``B kept`` is the increase after the forward pass, in bytes a neuron and step.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import neurons, report
from benchmarks.network import most_resident, resident
from benchmarks.timing import Prepared, Task
from snnfast.backend import memory

SHAPES = tuple((steps, 8, 512) for steps in (64, 250, 1000, 5000))
QUICK_SHAPES = ((7, 2, 6),)
FLOOR = "spikingjelly"
RECOMPUTED = "recomputed"
BASELINES = (RECOMPUTED, "snntorch", "jax")
STEP, PEAK, SAVED = "training step", "peak MB", "B kept"
# The peak would be that of all earlier steps unless malloc returned freed memory to the system.
ENVIRONMENT: dict[str, str] = {}
TIME_LIMIT, PEAK_LIMIT = 1.15, 0.1
CLASSES, LAYERS = 10, 3
WARM = 129  # steps of the first run: two parts of Recomputed, since the first torch.utils.checkpoint imports 75 MB
# Bytes a neuron and step that a peer needs, and the share of the free memory that it may take.
NEEDS = {"spikingjelly": 30, "snntorch": 40}
SHARE = 0.5  # other processes use the machine, too


def build(task: Task) -> nn.Module:
    """Build the network of plain layers; 5 % of the inputs and about 5 % of the neurons fire a step."""
    from snnfast.nn import LIF, Rate, SpikeLinear, Time

    torch.manual_seed(0)
    size, layers = task.shape[2], []
    for outputs in (*(size,) * LAYERS, CLASSES):
        product = SpikeLinear(size, outputs)
        with torch.no_grad():
            product.weight *= 4
        layers += [Time(product), LIF(tau=2.0, decay_input=False)]
    return nn.Sequential(*layers, Rate())


def inputs(task: Task) -> tuple[Tensor, Tensor]:
    """Return spikes of all steps, and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.empty(task.shape).bernoulli_(0.05, generator=generator)
    return x, torch.randint(CLASSES, task.shape[1:2], generator=generator)


def recomputed(net: nn.Module) -> nn.Module:
    """Wrap all layers of ``net`` but the readout in ``Recomputed``."""
    from snnfast.nn import Recomputed

    *layers, rate = net.children()
    return nn.Sequential(Recomputed(*layers), rate)


def prepare(task: Task) -> Prepared:
    room = available()
    needed = NEEDS.get(task.implementation, 0) * neuron_steps(task)
    if needed > SHARE * room:
        raise neurons.Skip(f"would need about {needed / 1e9:.0f} GB of {room / 1e9:.0f}")
    net, (x, target) = build(task), inputs(task)
    if task.implementation == "jax":
        step: Callable[[], Any] = neurons.baseline("jax").long_step(net, x, target)
        facts = {PEAK: peak(step)} | {"first loss": float(step())}
        return Prepared({STEP: step}, facts)
    run: Callable[[Tensor], Tensor] = net
    if task.implementation == RECOMPUTED:
        net = run = recomputed(net)
    elif task.implementation != neurons.OURS:
        net, run = neurons.baseline(task.implementation).long(net)

    def loss(x: Tensor) -> Tensor:
        return functional.cross_entropy(run(x), target)

    def training(x: Tensor = x) -> Tensor:
        net.zero_grad()
        value = loss(x)
        value.backward()
        return value.detach()

    training(x[:WARM])  # allocates gradients, and whatever libraries allocate and import once
    losses: list[Tensor] = []
    facts = {PEAK: peak(lambda: losses.append(training())), "first loss": losses[0].item()}
    release()
    before, value = resident(), loss(x)
    release()
    facts |= {SAVED: 1e6 * (resident() - before) / neuron_steps(task)}
    del value
    return Prepared({STEP: training}, facts)


def neuron_steps(task: Task) -> int:
    steps, batch, size = task.shape
    return steps * batch * (LAYERS * size + CLASSES)


def peak(run: Callable[[], object]) -> float:
    """Return the largest memory of the process while ``run`` runs, minus its memory before, in MB."""
    release()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # restarts the peak
    before = resident()
    run()
    status = Path("/proc/self/status")
    if not status.exists():
        return most_resident() - before
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6 - before


def release() -> None:
    """Return free memory to the system, if the C library can."""
    gc.collect()
    memory.release()  # otherwise the blocks that snnfast caches would count as memory before
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def available() -> float:
    """Return the bytes available to a new process; infinity if the system does not tell."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return float(found[0]) if found else float("inf")


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Judge the time against plain layers, and the memory against SpikingJelly."""
    found = []
    for shape in SHAPES:
        mine = {r.task.implementation: r for r in rows if r.task.shape == shape}
        if RECOMPUTED not in mine:
            continue
        judge = functools.partial(report.verdict, shape, STEP)
        ours = mine[RECOMPUTED]
        found.append(judge("time, recomputed / snnfast", ours.per_ours, "<=", TIME_LIMIT))
        if shape == SHAPES[-1]:
            ratio = ours.facts[PEAK] / mine[FLOOR].facts[PEAK] if FLOOR in mine else None
            found.append(judge("peak, recomputed / spikingjelly", ratio, "<=", PEAK_LIMIT))
    return found


def plot(path: Path, rows: list[report.Row], title: str) -> None:
    """Plot the peak and the time over the number of steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name in dict.fromkeys(row.task.implementation for row in rows):
        mine = [row for row in rows if row.task.implementation == name]
        steps = [row.task.shape[0] for row in mine]
        axes[0].plot(steps, [row.facts[PEAK] for row in mine], marker="o", label=name)
        axes[1].plot(steps, [row.minimum_seconds for row in mine], marker="o", label=name)
    axes[0].set(xscale="log", yscale="log", xlabel="steps", ylabel="peak of a training step, MB")
    axes[1].set(xscale="log", yscale="log", xlabel="steps", ylabel="training step, s")
    axes[0].legend()
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
