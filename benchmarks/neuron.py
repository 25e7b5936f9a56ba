"""One layer of a neuron with its default parameters, ``x [T, B, N]``, beside its reference and beside LIF."""

from __future__ import annotations

from benchmarks import lif, neurons
from benchmarks.timing import Prepared, Task

SHAPES = lif.SHAPES
QUICK_SHAPES = lif.QUICK_SHAPES
FLOOR = lif.FLOOR
BASELINES = ("reference", "lif")


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
    if task.implementation not in implementations:
        raise NotImplementedError(f"choose from {', '.join(implementations)}")
    run = implementations[task.implementation]
    x, grad = lif.inputs(task)
    return lif.passes(lambda x: run(x, return_state=False)[0], x, grad)
