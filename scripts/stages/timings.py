"""Times of kernels: the scans over time, learning, and networks, beside a copy, plain loops and other libraries.

CUDA events, the cache flushed; a copy is measured in the same minute.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from .job import Job, PartError, Parts, SkippedError

SHAPES = ((16, 1 << 22), (100, 1 << 17), (500, 1 << 13), (32, 1 << 15))
DTYPES = ("float32", "bfloat16", "float16")
LOOPS = ("reference_loop", "tuned_loop", "compiled_loop")
ABSENT = ("Skip", "ImportError", "ModuleNotFoundError")
JELLY = ("spikingjelly", "spikingjelly:torch", "spikingjelly:triton", "spikingjelly:cupy")
LEARNING = (
    "diehl_cook",
    "diehl_cook_conductance",
    "bp_stdp_network",
    "stdp",
    "bp_stdp",
    "spikeprop",
)
REHEARSED = ("stdp", "bp_stdp", "spikeprop")
CLUSTERED = LEARNING[:3]


def scans(job: Job) -> Parts:
    """LIF in every dtype beside a copy, and the scans that are written for themselves."""
    from benchmarks import neurons

    found = {}
    for dtype in DTYPES[:1] if job.rehearse else DTYPES:
        for shape in ((4, 64),) if job.rehearse else SHAPES:
            for implementation in ("clone", neurons.OURS):
                found |= part(job, "lif", implementation, shape, dtype)
    for benchmark in ("delay", "recurrent"):
        for shape in shapes(job, benchmark):
            found |= part(job, benchmark, neurons.OURS, shape)
    if not job.rehearse:
        for shape in SHAPES[1:3]:  # so many neurons as LIF's
            found |= part(job, "delay", "copy", shape) | part(job, "delay", neurons.OURS, shape)
    return found


def others(job: Job) -> Parts:
    """The other neurons, and LIF elsewhere."""
    from benchmarks import neurons

    found = {}
    for dtype in DTYPES[:1] if job.rehearse else DTYPES:
        for shape in ((4, 64),) if job.rehearse else SHAPES:
            for stem in neurons.stems():
                if stem != "lif":
                    found |= part(job, stem, neurons.OURS, shape, dtype)
    for shape in ((4, 64),) if job.rehearse else SHAPES:
        for implementation in ("reference_loop",) if job.rehearse else (*LOOPS, *JELLY):
            found |= part(job, "lif", implementation, shape)
    return found


def plasticity(job: Job) -> Parts:
    """Learning rules and the networks that they train, on the GPU and with one thread of the CPU, small ones first."""
    from benchmarks import neurons

    cases = [(b, s) for b in (REHEARSED if job.rehearse else LEARNING) for s in shapes(job, b)]
    found: dict[str, Any] = {}
    for benchmark, shape in sorted(cases, key=lambda case: math.prod(case[1])):
        for device in dict.fromkeys((job.device, "cpu")):
            found |= part(job, benchmark, neurons.OURS, shape, "float32", device)
        if benchmark in CLUSTERED and job.device == "cuda":
            found |= part(job, benchmark, neurons.OURS, shape, "float32", "cuda, no clusters")
    return found


def networks(job: Job) -> Parts:
    """Training steps of networks that fill a GPU, beside the same with ReLU, without neurons, and SpikingJelly's."""
    from benchmarks import network, neurons

    sizes = network.QUICK_LARGE[:1] if job.rehearse else tuple(network.LARGE)
    others = () if job.rehearse else ("spikingjelly",)
    found = {}
    for shape in sizes:
        for implementation in (neurons.OURS, network.FLOOR, network.PRODUCTS, *others):
            found |= part(job, "network", implementation, shape, "bfloat16")
    return found


def shapes(job: Job, benchmark: str) -> Iterable[tuple[int, ...]]:
    from benchmarks import neurons

    module = neurons.module_of(benchmark)
    return module.QUICK_SHAPES[:1] if job.rehearse else module.SHAPES


def part(
    job: Job,
    benchmark: str,
    implementation: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    device: str | None = None,
) -> dict[str, Any]:
    """A part by its name."""
    words = (benchmark, implementation, dtype, "x".join(map(str, shape)), device or "")
    return {
        " ".join(filter(None, words)): partial(
            timed, job, benchmark, implementation, shape, dtype, device
        )
    }


@contextmanager
def clusters(wanted: bool) -> Iterator[None]:
    """Without them teams of blocks meet in global memory, if there are several (SNNFAST_CLUSTERS)."""
    before = os.environ.get("SNNFAST_CLUSTERS")
    os.environ["SNNFAST_CLUSTERS"] = str(int(wanted))
    try:
        yield
    finally:
        del os.environ["SNNFAST_CLUSTERS"]
        if before is not None:
            os.environ["SNNFAST_CLUSTERS"] = before


def timed(
    job: Job,
    benchmark: str,
    implementation: str,
    shape: tuple[int, ...],
    dtype: str,
    device: str | None,
) -> dict[str, Any]:
    """Medians in seconds of the passes of one implementation, in this process."""
    import torch

    from benchmarks.timing import Task, measure

    torch.compiler.reset()
    where, _, without = (device or job.device).partition(", ")
    task = Task(
        benchmark,
        implementation,
        shape,
        dtype,
        where,
        repeats=2 if job.rehearse else 20,
        budget=1.0,
    )
    with clusters(not without):
        measurement = measure(task)
    if job.device == "cuda":
        torch.cuda.empty_cache()
    if measurement.skipped:
        absent = measurement.skipped.partition(":")[0] in ABSENT
        raise SkippedError(measurement.skipped) if absent else PartError(measurement.skipped)
    return {
        "benchmark": benchmark,
        "implementation": implementation,
        "shape": shape,
        "dtype": dtype,
        "device": device or job.device,
        "seconds": {name: measurement.median(name) for name in measurement.seconds},
        "spread": {name: max(s) / min(s) for name, s in measurement.seconds.items()},
        "facts": measurement.facts,
        "version": measurement.version,
        "memory": torch.cuda.memory_allocated() if where == "cuda" else 0,
    }
