"""Readouts that never fire, ``li`` and ``cubali``, ``x [T, B, N]``, beside the reference of ``li`` and beside LIF."""

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
    # 16 bits give membranes in float32
    wide = grad.to(run(x[:1])[0].dtype)
    return lif.passes(lambda x: run(x)[0], x, wide)
