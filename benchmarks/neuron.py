"""One layer of a neuron with default parameters, ``x [T, B, N]``, compared with its reference and with LIF."""

from __future__ import annotations

from typing import Any

from benchmarks import lif, neurons, report
from benchmarks.timing import Prepared, Task

SHAPES = lif.SHAPES
QUICK_SHAPES = lif.QUICK_SHAPES
FLOOR = lif.FLOOR
BASELINES = ("reference", "lif")
# Largest time of a neuron relative to LIF, forward and backward, with one thread.
LIMITS = {"adlif": 1.7, "alif": 1.7}


def prepare(task: Task) -> Prepared:
    import snnfast

    if task.implementation == FLOOR:
        return lif.prepare(task)
    name = task.benchmark
    implementations = {
        neurons.OURS: getattr(snnfast.ops, name),
        "reference": getattr(snnfast.reference, name),
        "lif": snnfast.ops.lif,
    }
    run = neurons.chosen(task.implementation, implementations)
    x, grad = lif.inputs(task)
    return lif.passes(lambda x: run(x, return_state=False)[0], x, grad)


def verdicts(found: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limit of a neuron, for one thread."""
    rows = [
        row
        for row in found
        if row.task.benchmark in LIMITS
        and row.task.threads == 1
        and (row.task.implementation, row.name) == ("lif", lif.TRAINING)
        and row.per_ours
    ]
    return [
        report.verdict(
            row.task.shape, row.name, f"{row.task.benchmark} / lif", 1 / row.per_ours, "<=", LIMITS[row.task.benchmark]
        )
        for row in rows
    ]
