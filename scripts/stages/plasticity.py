"""Learning rules and the networks that they train, on the GPU and with one thread of the CPU."""

from __future__ import annotations

from functools import partial

from .job import Job, Parts
from .neurons import timed

BENCHMARKS = (
    "diehl_cook",
    "diehl_cook_conductance",
    "stdp",
    "bp_stdp",
    "bp_stdp_network",
    "spikeprop",
)
REHEARSED = ("stdp", "bp_stdp", "spikeprop")


def parts(job: Job) -> Parts:
    from benchmarks import neurons

    found = {}
    for benchmark in REHEARSED if job.rehearse else BENCHMARKS:
        module = neurons.module_of(benchmark)
        for shape in module.QUICK_SHAPES[:1] if job.rehearse else module.SHAPES:
            for device in dict.fromkeys(("cpu", job.device)):
                name = f"{benchmark} {'x'.join(map(str, shape))} {device}"
                found[name] = partial(timed, job, benchmark, neurons.OURS, shape, "float32", device)
    return found
