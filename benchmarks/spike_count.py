"""Counting the spikes of integrate-and-fire neurons ``[T, ...]``; ``sum`` only adds up the input."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((16, 100, 4096), (100, 100, 4096))
QUICK_SHAPES = ((3, 2, 5),)
FLOOR = "sum"
BASELINES = ("iaf_and_sum", "reference")
COUNT = "count"


def prepare(task: Task) -> Prepared:
    import snnfast

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(task.shape, generator=generator) * 0.5 + 0.1
    x = x.to(task.device, task.torch_dtype)

    def sum_of_spikes() -> object:
        return snnfast.ops.iaf(x, v_reset=None)[0].sum(0)

    implementations: dict[str, Callable[[], object]] = {
        FLOOR: lambda: x.sum(0),
        "iaf_and_sum": sum_of_spikes,
        "reference": lambda: snnfast.reference.spike_count(x),
        neurons.OURS: lambda: snnfast.ops.spike_count(x),
    }
    count = neurons.chosen(task.implementation, implementations)
    spikes = snnfast.ops.spike_count(x)[0].double().mean().item()
    return Prepared({COUNT: count}, {"spikes a neuron": spikes})
