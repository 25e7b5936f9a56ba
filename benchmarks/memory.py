"""Memory and time of a training step over long sequences, ``T x B x N``: three layers of N LIF neurons, and ten.

``snnfast`` is the network of plain layers, ``recomputed`` the same in :class:`snnfast.nn.Recomputed`; JAX computes
parts of up to 64 steps once more, too. ``peak MB`` is what the process holds at most during a step, above what it held
before; the input is there before. ``B kept`` is how much it holds more after the forward pass, a neuron and step.
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
STEP, PEAK, KEPT = "training step", "peak MB", "B kept"
# What malloc frees goes back to the system, or the peak would be that of all steps before.
ENVIRONMENT: dict[str, str] = {}
TIME_LIMIT, PEAK_LIMIT = 1.15, 0.1
CLASSES, LAYERS = 10, 3
WARM = 129  # steps of the first run: two parts of Recomputed, since torch.utils.checkpoint imports 75 MB when it runs
# Bytes a neuron and step that a peer needs, and how much of the free memory it may take.
NEEDS = {"spikingjelly": 30, "snntorch": 40}
SHARE = 0.5  # others use the machine, too


def build(task: Task) -> nn.Module:
    """The network of plain layers; 5 % of the inputs, and as many neurons, fire a step."""
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
    """Spikes of every step, and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.empty(task.shape).bernoulli_(0.05, generator=generator)
    return x, torch.randint(CLASSES, task.shape[1:2], generator=generator)


def recomputed(net: nn.Module) -> nn.Module:
    """``net`` with its layers in parts."""
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

    training(x[:WARM])  # makes gradients, and what libraries make and import once
    losses: list[Tensor] = []
    facts = {PEAK: peak(lambda: losses.append(training())), "first loss": losses[0].item()}
    release()
    before, value = resident(), loss(x)
    release()
    facts |= {KEPT: 1e6 * (resident() - before) / neuron_steps(task)}
    del value
    return Prepared({STEP: training}, facts)


def neuron_steps(task: Task) -> int:
    steps, batch, size = task.shape
    return steps * batch * (LAYERS * size + CLASSES)


def peak(run: Callable[[], object]) -> float:
    """MB that the process holds at most while ``run`` runs, above what it holds before."""
    release()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # from here on the largest is counted
    before = resident()
    run()
    status = Path("/proc/self/status")
    if not status.exists():
        return most_resident() - before
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6 - before


def release() -> None:
    """Gives what is free back to the system, where the C library can."""
    gc.collect()
    memory.release()  # or the blocks that snnfast keeps would count as there before
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def available() -> float:
    """Bytes that the machine has for a new process, where it tells."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return float(found[0]) if found else float("inf")


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Time beside plain layers, and memory beside SpikingJelly."""
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
    """The peak and the time over the number of steps."""
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
