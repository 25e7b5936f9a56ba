"""One layer of LIF neurons, ``x [T, B, N]``: a memory-bound kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import neurons, report
from benchmarks.timing import Prepared, Task

SHAPES = ((16, 64, 1024), (32, 32, 4096), (100, 32, 4096), (4, 32, 4096))
QUICK_SHAPES = ((3, 2, 5),)
BASELINES = (*neurons.BASELINES, "jax")
# The floor is a copy of x into new memory, which malloc reuses (timing.KEEP_FREED). "copy" writes into existing memory.
FLOOR = "clone"
FORWARD, TRAINING, BACKWARD = "forward", "forward+backward", "backward"
# Tensors of the size of x that cross the memory bus: read x, write the spikes; then read x and the
# gradient of the spikes, write the gradient of x.
TENSORS_MOVED = {FORWARD: 2, TRAINING: 5, BACKWARD: 3, "copy": 2}


class Limit(NamedTuple):
    """Limits of snnfast with one thread; ``avx2``: clones on processors without AVX-512."""

    shape: tuple[int, ...]
    name: str
    clones: float
    avx2: float
    spikingjelly: float
    tuned_loop: float


# These hold for warm memory, also of the clones.
LIMITS = (
    Limit((16, 64, 1024), TRAINING, clones=4, avx2=8, spikingjelly=10, tuned_loop=8),
    Limit((32, 32, 4096), TRAINING, clones=4, avx2=4.5, spikingjelly=10, tuned_loop=8),
    Limit((100, 32, 4096), TRAINING, clones=4, avx2=3.4, spikingjelly=3, tuned_loop=2),
    Limit((4, 32, 4096), FORWARD, clones=2, avx2=2, spikingjelly=3, tuned_loop=2),
)


def inputs(task: Task) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(task.device).manual_seed(0)
    x = 1 + torch.randn(task.shape, generator=generator, device=task.device)
    grad = torch.randn(task.shape, generator=generator, device=task.device)
    return x.to(task.torch_dtype), grad.to(task.torch_dtype)


def prepare(task: Task) -> Prepared:
    x, grad = inputs(task)
    if task.implementation == FLOOR:
        out = torch.empty_like(x)
        prepared = Prepared({FLOOR: x.clone, "copy": lambda: out.copy_(x)}, {})
    elif task.implementation == "jax":
        prepared = neurons.baseline("jax").passes("lif", x, grad)
    else:
        prepared = passes(neurons.lif(task.implementation), x, grad)
    return prepared._replace(bytes_moved={name: count * x.nbytes for name, count in TENSORS_MOVED.items()})


def passes(run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Prepared:
    """Forward pass, and forward with the gradient of ``x``, of neurons ``x -> spikes``; on a GPU also that gradient."""
    leaf = x.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            return run(x)

    def training() -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(leaf), leaf, grad)

    facts = {"spikes a step": forward().double().mean().item()}
    timed: dict[str, Callable[[], object]] = {FORWARD: forward, TRAINING: training}
    if x.is_cuda:
        spikes = run(leaf)
        timed[BACKWARD] = lambda: torch.autograd.grad(spikes, leaf, grad, retain_graph=True)
    return Prepared(timed, facts)


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limits."""
    return [*limit_verdicts(rows), *thread_verdicts(rows)]


def limit_verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Compare one thread with the clone and the baselines; None if the shape was not measured."""
    measured = {(row.task.shape, row.name, row.task.implementation): row for row in rows if row.task.threads == 1}
    found = []
    for limit in LIMITS:
        ours = measured.get((limit.shape, limit.name, neurons.OURS))
        if ours is None:
            continue
        clones = limit.avx2 if torch.backends.cpu.get_cpu_capability() == "AVX2" else limit.clones
        judged = [("clones", ours.floors, "<=", clones)]
        for baseline in ("spikingjelly", "tuned_loop"):
            row = measured.get((limit.shape, limit.name, baseline))
            ratio = row.per_ours if row else None
            judged.append((f"{baseline} / snnfast", ratio, ">=", getattr(limit, baseline)))
        found += [report.verdict(limit.shape, limit.name, *judgement) for judgement in judged]
    return found


def thread_verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Check that more threads are not slower than one."""
    ours = [row for row in rows if row.task.implementation == neurons.OURS]
    alone = {(row.task.shape, row.name): row.minimum_seconds for row in ours if row.task.threads == 1}
    return [
        report.verdict(
            row.task.shape,
            row.name,
            f"{row.task.threads} threads / 1 thread",
            row.minimum_seconds / alone[row.task.shape, row.name],
            "<=",
            1.0,
        )
        for row in ours
        if row.task.threads > 1 and (row.task.shape, row.name) in alone
    ]
