"""OTTT for three layers of LIF neurons, ``steps x batch x neurons``, with one input per neuron and ten outputs.

A sequence in parts of 50 steps by :class:`snnfast.learning.OTTT`, and in single steps. ``plain_loop`` is the same rule
in plain PyTorch, one step at a time, with the equations of Xiao et al. (2022) for these neurons; ``through_time`` is
backpropagation through time over the whole sequence. Facts: spikes per step of the first layer, and the norm of the
gradient of its weights, which differs for ``through_time``.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.eprop import BASELINES, FLOOR, QUICK_SHAPES, prepared, verdicts
from benchmarks.timing import Prepared, Task
from snnfast.nn import LI, LIF

__all__ = ["BASELINES", "FLOOR", "QUICK_SHAPES", "SHAPES", "prepare", "verdicts"]

SHAPES = ((500, 16, 100),)


def prepare(task: Task) -> Prepared:
    features = task.shape[2]
    torch.manual_seed(0)
    hidden: list[nn.Module] = []
    for _ in range(3):
        hidden += [nn.Linear(features, features), LIF(5.0, v_reset=None, detach_reset=True)]
        with torch.no_grad():
            hidden[-2].weight.mul_(20)
    return prepared(task, nn.Sequential(*hidden, nn.Linear(features, 10), LI(5.0)), "OTTT")
