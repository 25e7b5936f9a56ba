"""Learning rules and the networks that they train, on the GPU and with one thread of the CPU."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

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
CLUSTERED = ("diehl_cook", "diehl_cook_conductance")


def without_clusters(job: Job, benchmark: str, shape: tuple[int, ...]) -> dict[str, Any]:
    from benchmarks import neurons

    os.environ["SNNFAST_CLUSTERS"] = "0"
    try:
        found = timed(job, benchmark, neurons.OURS, shape, "float32", "cuda")
    finally:
        del os.environ["SNNFAST_CLUSTERS"]
    return {**found, "device": "cuda, no clusters"}


def parts(job: Job) -> Parts:
    from benchmarks import neurons

    found = {}
    for benchmark in REHEARSED if job.rehearse else BENCHMARKS:
        module = neurons.module_of(benchmark)
        for shape in module.QUICK_SHAPES[:1] if job.rehearse else module.SHAPES:
            for device in dict.fromkeys(("cpu", job.device)):
                name = f"{benchmark} {'x'.join(map(str, shape))} {device}"
                found[name] = partial(timed, job, benchmark, neurons.OURS, shape, "float32", device)
            if benchmark in CLUSTERED and job.device == "cuda":
                found[f"{name}, no clusters"] = partial(without_clusters, job, benchmark, shape)
    return found
