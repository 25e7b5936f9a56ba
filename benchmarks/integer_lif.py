"""Integer neurons ``[T, B, N]``, compared with ``lif`` in float32 and the reference; ``copy`` only writes int8."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((4, 64, 1200), (16, 64, 4096))
QUICK_SHAPES = ((3, 2, 5),)
FLOOR = "copy"
BASELINES = ("lif", "reference")


def prepare(task: Task) -> Prepared:
    import snnfast

    if task.device != "cpu":
        raise neurons.Skip("the kernel is for the CPU")
    channels = task.shape[2]
    x = torch.randint(-400, 600, task.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    gain, bias = torch.full((channels,), 2**15, dtype=torch.int32), torch.zeros(channels, dtype=torch.int32)
    real = x.float() * 2.0**-9

    def fire(library: object) -> Callable[[], object]:
        return lambda: library.integer_lif(x, gain=gain, bias=bias)[0]  # type: ignore[attr-defined]

    implementations: dict[str, Callable[[], object]] = {
        FLOOR: lambda: x.to(torch.int8),
        "lif": lambda: snnfast.ops.lif(real, tau=2.0, decay_input=False, return_state=False)[0],
        "reference": fire(snnfast.reference),
        neurons.OURS: fire(snnfast.ops),
    }
    run = neurons.chosen(task.implementation, implementations)
    return Prepared({"spikes": run}, {"rate": run().float().mean().item()})  # type: ignore[attr-defined]
