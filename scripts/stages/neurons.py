"""Every neuron of the scan over time, forward and backward, and LIF beside plain loops and SpikingJelly.

CUDA events, the cache flushed, as a share of a copy that is measured in the same minute.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .job import Job, PartError, Parts, SkippedError

SHAPES = ((16, 1 << 22), (100, 1 << 17), (500, 1 << 13), (32, 1 << 15))
DTYPES = ("float32", "bfloat16", "float16")
LOOPS = ("reference_loop", "tuned_loop", "compiled_loop")
ABSENT = ("Skip", "ImportError", "ModuleNotFoundError")
JELLY = ("spikingjelly", "spikingjelly:torch", "spikingjelly:triton", "spikingjelly:cupy")


def parts(job: Job) -> Parts:
    from benchmarks import neurons

    shapes, dtypes = (((4, 64),), ("float32",)) if job.rehearse else (SHAPES, DTYPES)
    stems = ["lif", *(stem for stem in neurons.stems() if stem != "lif")]
    found = {}
    for implementation in ("clone", neurons.OURS):
        for dtype in dtypes:
            for shape in shapes:
                for stem in stems if implementation == neurons.OURS else ("lif",):
                    name = " ".join((stem, implementation, dtype, "x".join(map(str, shape))))
                    found[name] = partial(timed, job, stem, implementation, shape, dtype)
    for shape in shapes:
        for implementation in ("reference_loop",) if job.rehearse else (*LOOPS, *JELLY):
            name = " ".join(("lif", implementation, "float32", "x".join(map(str, shape))))
            found[name] = partial(timed, job, "lif", implementation, shape, "float32")
    return found


def timed(
    job: Job,
    benchmark: str,
    implementation: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    device: str | None = None,
) -> dict[str, Any]:
    """Medians in seconds of the passes of one implementation, in this process."""
    import torch

    from benchmarks.timing import Task, measure

    torch.compiler.reset()
    task = Task(
        benchmark,
        implementation,
        shape,
        dtype,
        device or job.device,
        repeats=2 if job.rehearse else 20,
        budget=1.0,
    )
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
        "device": task.device,
        "seconds": {name: measurement.median(name) for name in measurement.seconds},
        "spread": {name: max(s) / min(s) for name, s in measurement.seconds.items()},
        "facts": measurement.facts,
        "version": measurement.version,
    }
