"""Plasticity of synapses, ``T x inputs x neurons``: 2 % and 10 % of all pairs, 2 % spikes, one sample.

``dense`` is ``stdp_`` of the whole matrix, with as many rules and traces.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((500, 2000, 2000),)
QUICK_SHAPES = ((20, 40, 30),)
FLOOR = "clone"
BASELINES = ("dense",)
PARTS = (0.02, 0.1)
SPIKES = 0.02


def prepare(task: Task) -> Prepared:
    from snnfast import connect, ops, plasticity

    T, inputs, outputs = task.shape
    generator = torch.Generator().manual_seed(0)
    pre, post = ((torch.rand(T, 1, n, generator=generator) < SPIKES).to(task.device) for n in (inputs, outputs))
    rule = plasticity.pair(1e-4, 1e-4)
    if task.implementation == FLOOR:
        return Prepared({FLOOR: pre.clone}, {})
    passes: dict[str, Any] = {}
    for part in PARTS if task.implementation == neurons.OURS else (1.0,):
        if task.implementation == "dense":
            w = torch.rand(outputs, inputs, generator=generator).to(task.device, task.torch_dtype)
            run = partial(ops.stdp_, w, pre, post, rule=rule)
            passes |= {f"{share:.0%}": run for share in PARTS}
        else:
            degree = max(round(outputs * part), 1)
            c = connect.fixed_outdegree(inputs, outputs, outdegree=degree, multapses=False, seed=0)
            w = torch.rand(len(c), generator=generator).to(task.device, task.torch_dtype)
            passes[f"{part:.0%}"] = partial(ops.sparse_stdp_, w, pre, post, c, rule=rule)
    return Prepared(passes, {})
