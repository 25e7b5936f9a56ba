"""Readouts without spikes, ``li`` and ``cubali``, ``x [T, B, N]``; reference, associative scan and LIF beside them."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import lif, neurons
from benchmarks.timing import Prepared, Task

SHAPES = (*lif.SHAPES, (1000, 16, 256))
QUICK_SHAPES = lif.QUICK_SHAPES
FLOOR = lif.FLOOR
BASELINES = ("cubali", "reference", "scan", "lif")


def scan(x: Tensor) -> tuple[Tensor, ...]:
    """Membranes of ``ops.li(x)`` by an associative scan over time, in log2(T) passes (Hillis and Steele 1986)."""
    v, decay, step = x.to(torch.promote_types(x.dtype, torch.float32)) / 2, 0.5, 1
    while step < len(x):
        v = torch.cat([v[:step], torch.add(v[step:], v[:-step], alpha=decay)])
        decay, step = decay**2, 2 * step
    return v, v[-1]


def prepare(task: Task) -> Prepared:
    from snnfast import ops, reference

    if task.implementation == FLOOR:
        return lif.prepare(task)
    implementations = {
        neurons.OURS: ops.li,
        "cubali": ops.cubali,
        "reference": reference.li,
        "scan": scan,
        "lif": lambda x: ops.lif(x, return_state=False),
    }
    run = neurons.chosen(task.implementation, implementations)
    x, grad = lif.inputs(task)
    # inputs of 16 bits have membranes in float32
    wide = grad.to(run(x[:1])[0].dtype)
    return lif.passes(lambda x: run(x)[0], x, wide)
