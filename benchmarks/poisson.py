"""Random spikes ``[T, ...]`` from probabilities; ``zeros`` only writes the memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((100, 32, 784), (100, 128, 784))
QUICK_SHAPES = ((3, 2, 5),)
FLOOR = "zeros"
BASELINES = ("rand", "bernoulli")
ENCODE = "encode"


def prepare(task: Task) -> Prepared:
    import snnfast

    steps, neuron_shape = task.shape[0], task.shape[1:]
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(neuron_shape, generator=generator).to(task.device, task.torch_dtype)
    implementations: dict[str, Callable[[], Tensor]] = {
        FLOOR: lambda: torch.zeros(task.shape, dtype=p.dtype, device=p.device),
        # As in SpikingJelly and snnTorch, for all steps at once.
        "rand": lambda: (torch.rand(task.shape, device=p.device) < p).to(p.dtype),
        "bernoulli": lambda: torch.bernoulli(p.expand(task.shape)),
        neurons.OURS: lambda: snnfast.ops.poisson(p, steps, dtype=p.dtype),
    }
    run = neurons.chosen(task.implementation, implementations)
    return Prepared({ENCODE: run}, {"spikes a step": run().double().mean().item()})
