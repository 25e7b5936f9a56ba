"""Keeping the state every 32 steps beside other intervals; 1 saves every step. Forward and backward of ``lif``."""

from __future__ import annotations

import torch

from benchmarks import lif, neurons
from benchmarks.timing import Prepared, Task

SHAPES = (*lif.SHAPES, (500, 16, 512))
QUICK_SHAPES = lif.QUICK_SHAPES
FLOOR = lif.FLOOR
BASELINES = ("every_1", "every_8", "every_16", "every_64")


def prepare(task: Task) -> Prepared:
    from snnfast import ops
    from snnfast.ops.neuron import CHECKPOINT_EVERY
    from snnfast.reference.call import flatten

    if task.implementation == FLOOR:
        return lif.prepare(task)
    if task.implementation == neurons.OURS:
        every = CHECKPOINT_EVERY[task.device]
    else:
        every = int(task.implementation.removeprefix("every_"))
    x, grad = lif.inputs(task)
    flat = flatten(ops.lif.check(x, tau=2.0, surrogate="atan", return_state=False))

    def training() -> tuple[torch.Tensor, ...]:
        *_, kept = torch.ops.snnfast.lif_forward(*flat, every)
        return torch.ops.snnfast.lif_backward(*flat, False, kept, every, False, grad, None, None)

    return Prepared({lif.TRAINING: training}, {})
