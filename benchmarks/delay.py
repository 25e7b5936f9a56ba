"""Delays of 0 to 25 steps, one per channel of ``[T, B, C]``; ``copy`` only copies the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import neurons, report
from benchmarks.timing import Prepared, Task

SHAPES = ((200, 64, 128), (784, 64, 128))
QUICK_SHAPES = ((3, 2, 5),)
FLOOR = "copy"
BASELINES = ("reference",)
FORWARD, TRAINING = "forward", "forward+backward"
LIMIT = 2.5


def prepare(task: Task) -> Prepared:
    import snnfast

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(task.shape, generator=generator).to(task.device, task.torch_dtype)
    grad = x.flip(0)
    d = torch.rand(task.shape[-1], generator=generator) * 25
    d = d.to(task.device, torch.float64 if task.dtype == "float64" else torch.float32)
    if task.implementation == FLOOR:
        return Prepared({FLOOR: x.clone}, {})
    ops: dict[str, Callable[..., torch.Tensor]] = {
        "reference": snnfast.reference.delay,
        neurons.OURS: snnfast.ops.delay,
    }
    op = neurons.chosen(task.implementation, ops)
    leaves = (x.clone().requires_grad_(), d.clone().requires_grad_())

    def training() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(op(*leaves), leaves, grad)

    passes: dict[str, Callable[[], object]] = {FORWARD: lambda: op(x, d), TRAINING: training}
    return Prepared(passes, {"mean": op(x, d).double().mean().item()})


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the time with that of copies of the input."""
    return [
        report.verdict(row.task.shape, row.name, "delay / copies of x", row.floors, "<=", LIMIT)
        for row in rows
        if row.task.implementation == neurons.OURS
    ]
