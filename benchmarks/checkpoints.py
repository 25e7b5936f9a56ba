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
    import snnfast
    from snnfast.ops.scan import CHECKPOINT_EVERY

    if task.implementation == FLOOR:
        return lif.prepare(task)
    if task.implementation == neurons.OURS:
        every = CHECKPOINT_EVERY[task.device]
    else:
        every = int(task.implementation.removeprefix("every_"))
    x, grad = lif.inputs(task)
    neuron = (
        0.5,
        None,
        1.0,
        None,
        0.5,
        True,
        0.0,
        0.0,
        True,
    )  # decay ... fires, as in csrc/ops/lif.cpp

    def training() -> tuple[torch.Tensor, ...]:
        _, _, _, kept = torch.ops.snnfast.lif_forward(x, None, *neuron, False, False, every)
        gradient = (snnfast.surrogate.atan().number, 2.0, False, False, every)
        return torch.ops.snnfast.lif_backward(grad, None, None, x, None, kept, *neuron, *gradient)

    return Prepared({lif.TRAINING: training}, {})
