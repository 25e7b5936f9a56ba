"""Training steps of networks that fill a GPU, beside the same with ReLU, without neurons, and with SpikingJelly's."""

from __future__ import annotations

from functools import partial

from .job import Job, Parts
from .neurons import timed


def parts(job: Job) -> Parts:
    from benchmarks import network, neurons

    shapes = network.QUICK_LARGE[:2] if job.rehearse else tuple(network.LARGE)
    others = () if job.rehearse else ("spikingjelly",)
    return {
        f"{network.EVERY[shape].name} {'x'.join(map(str, shape))} {implementation}": partial(
            timed, job, "network", implementation, shape, "bfloat16"
        )
        for shape in shapes
        for implementation in (neurons.OURS, network.FLOOR, network.PRODUCTS, *others)
    }
