"""LIF neurons with a refractory period, or several spikes per step, compared with plain ones."""

from __future__ import annotations

from typing import Any

from benchmarks import lif, neurons
from benchmarks.timing import Prepared, Task

SHAPES = lif.SHAPES
QUICK_SHAPES = lif.QUICK_SHAPES
FLOOR = lif.FLOOR
CHOICES: dict[str, dict[str, Any]] = {
    neurons.OURS: {},
    "refractory": {"refractory": 2},
    "soft_reset": {"v_reset": None},
    "several": {"v_reset": None, "max_spikes": None},
}
BASELINES = tuple(name for name in CHOICES if name != neurons.OURS)


def prepare(task: Task) -> Prepared:
    import snnfast

    if task.implementation == FLOOR:
        return lif.prepare(task)
    choice = neurons.chosen(task.implementation, CHOICES)
    x, grad = lif.inputs(task)
    return lif.passes(lambda x: snnfast.ops.lif(x, return_state=False, **choice)[0], x, grad)
