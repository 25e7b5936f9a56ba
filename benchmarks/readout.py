"""Readouts without spikes, ``li`` and ``cubali``, ``x [T, B, N]``, compared with the reference and with LIF."""

from __future__ import annotations

from benchmarks import lif, neurons
from benchmarks.timing import Prepared, Task

SHAPES = lif.SHAPES
QUICK_SHAPES = lif.QUICK_SHAPES
FLOOR = lif.FLOOR
BASELINES = ("cubali", "reference", "lif")


def prepare(task: Task) -> Prepared:
    from snnfast import ops, reference

    if task.implementation == FLOOR:
        return lif.prepare(task)
    implementations = {
        neurons.OURS: ops.li,
        "cubali": ops.cubali,
        "reference": reference.li,
        "lif": lambda x: ops.lif(x, return_state=False),
    }
    run = neurons.chosen(task.implementation, implementations)
    x, grad = lif.inputs(task)
    # inputs of 16 bits have membranes in float32
    wide = grad.to(run(x[:1])[0].dtype)
    return lif.passes(lambda x: run(x)[0], x, wide)
