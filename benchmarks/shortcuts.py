"""Faster replacements of PyTorch's layers for spikes: Linear, ``B x inputs x outputs``, and pooling, ``B x C x H x W``.

The passes of a Linear are named by the share of inputs that spike. ``snnfast/conversion/shortcuts.py`` decides which of
them a network replaces; the benchmark measures all.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = (
    *((1, 1200, 1200), (100, 1200, 1200), (1, 2048, 4096), (100, 2048, 4096), (100, 512, 64)),
    *((100, 12, 24, 24), (100, 64, 32, 32)),
)
QUICK_SHAPES = ((2, 8, 4), (2, 3, 4, 4))
FLOOR = "layer"
BASELINES = ()
PARTS = (0.01, 0.05, 0.1, 0.2, 0.3)


def prepare(task: Task) -> Prepared:
    from snnfast import ops
    from snnfast.conversion.shortcuts import average_pool, input_major

    like = {"device": task.device, "dtype": task.torch_dtype}
    torch.manual_seed(0)
    name = task.implementation
    if name not in (FLOOR, neurons.OURS):
        raise neurons.Skip(f"choose {FLOOR} or {neurons.OURS}")
    if len(task.shape) == 3:
        batch, inputs, outputs = task.shape
        linear = nn.Linear(inputs, outputs).to(**like).requires_grad_(False)
        how = {"weight": input_major(linear.weight), "bias": linear.bias, "method": "events"}
        run = linear if name == FLOOR else partial(ops.spike_linear, **how)
        spikes = {p: (torch.rand(batch, inputs, **like) < p).to(task.torch_dtype) for p in PARTS}
        return Prepared({f"{100 * p:g} %": partial(run, x) for p, x in spikes.items()}, {})
    x = (torch.rand(task.shape, **like) < 0.1).to(task.torch_dtype)
    pool = nn.AvgPool2d(2) if name == FLOOR else partial(average_pool, size=2)
    return Prepared({"pool by 2": partial(pool, x)}, {})
