"""One layer of neurons with a synaptic current, ``x [T, B, N]``, beside its plain PyTorch reference."""

from __future__ import annotations

from benchmarks import lif, neurons
from benchmarks.timing import Prepared, Task

SHAPES = lif.SHAPES
QUICK_SHAPES = lif.QUICK_SHAPES
FLOOR = lif.FLOOR
BASELINES = ("reference",)


def prepare(task: Task) -> Prepared:
    import snnfast

    if task.implementation == FLOOR:
        return lif.prepare(task)
    implementations = {neurons.OURS: snnfast.ops.cuba, "reference": snnfast.reference.cuba}
    if task.implementation not in implementations:
        raise NotImplementedError(f"choose from {', '.join(implementations)}")
    run = implementations[task.implementation]
    x, grad = lif.inputs(task)
    return lif.passes(lambda x: run(x, tau=2.0, tau_syn=4.0, return_state=False)[0], x, grad)
