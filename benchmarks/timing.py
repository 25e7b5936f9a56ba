"""Timing of one implementation, in a separate process, so that no allocator state is shared."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]

FEWEST_RUNS = 3
QUEUE_CYCLES = 2_000_000  # clock cycles of a GPU: about a millisecond
# Make glibc's malloc reuse freed memory, as late in a training, so that page faults affect no implementation.
KEEP_FREED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


CHILD = """
import sys, runpy
sys.path[0] = {package!r}
import snnfast
sys.path[0] = {root!r}
runpy.run_module("benchmarks.timing", run_name="__main__")
"""


@dataclass(frozen=True)
class Task:
    benchmark: str
    implementation: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    repeats: int = 20
    # Seconds after which a slow pass is not repeated.
    budget: float = 2.0
    # "wall", or "cpu" for the CPU time of the process, which other processes disturb less.
    clock: str = "wall"

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


class Prepared(NamedTuple):
    """Input of the timer from a benchmark: the passes by name, and facts that must agree.

    ``times`` is the number of repetitions of the work in a pass, by which its time is divided. ``bytes_moved`` is the
    smallest number of bytes that a memory-bound pass reads and writes.
    """

    passes: dict[str, Callable[[], object]]
    facts: dict[str, float]
    times: dict[str, float] = {}  # noqa: RUF012
    bytes_moved: dict[str, int] = {}  # noqa: RUF012


@dataclass
class Measurement:
    """Seconds of every run of every pass, or the reason why there are none."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    bytes_moved: dict[str, int] = field(default_factory=dict)
    version: str = ""
    note: str = ""
    skipped: str = ""

    def merge(self, other: Measurement) -> None:
        for name, seconds in other.seconds.items():
            self.seconds.setdefault(name, []).extend(seconds)

    def minimum(self, name: str) -> float | None:
        return min(self.seconds[name]) if name in self.seconds else None

    def median(self, name: str) -> float | None:
        return statistics.median(self.seconds[name]) if name in self.seconds else None


class Seconds(float):
    """Result of a pass that runs another program: the duration that this program measured."""


def once(run: Callable[[], object], task: Task) -> Callable[[], float]:
    """Return a function that runs ``run`` once and returns its duration in seconds.

    A pass that runs another program returns its :class:`Seconds`. On a GPU it measures between two events, with a
    flushed cache. A delay kernel runs first, so that all launches of a short run are queued before the first event.
    """
    if task.device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        size = torch.cuda.get_device_properties().L2_cache_size
        flush = torch.empty(2 * size, dtype=torch.uint8, device="cuda")

        def on_gpu() -> float:
            torch.cuda._sleep(QUEUE_CYCLES)
            flush.zero_()
            start.record()
            run()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1000

        return on_gpu
    clock = time.process_time if task.clock == "cpu" else time.perf_counter

    def on_cpu() -> float:
        begin = clock()
        result = run()
        return result if isinstance(result, Seconds) else clock() - begin

    return on_cpu


def time_runs(run: Callable[[], object], task: Task) -> list[float]:
    run()
    timed = once(run, task)
    seconds: list[float] = []
    deadline = time.perf_counter() + task.budget
    gc.collect()
    gc.disable()
    try:
        while len(seconds) < task.repeats and (len(seconds) < FEWEST_RUNS or time.perf_counter() < deadline):
            seconds.append(timed())
    finally:
        gc.enable()
    return seconds


def require_kernels(device: str) -> None:
    """Exit unless the kernels of snnfast can run; turn later fallbacks to its reference into errors.

    Raises:
        SystemExit: with the reason.
    """
    from snnfast import backend

    asked = backend.forced()
    problem = backend.why_not(device)
    if asked not in (None, device):
        problem = f"SNNFAST_BACKEND asks for {asked}"
    if problem:
        sys.exit(f"benchmarks: the {device} kernels of snnfast cannot run: {problem}")
    warnings.filterwarnings("error", category=backend.BackendWarning)


def measure(task: Task) -> Measurement:
    """Measure in this process."""
    from benchmarks import neurons
    from snnfast.backend import BackendWarning

    torch.set_num_threads(task.threads)
    require_kernels(task.device)
    try:
        prepared = neurons.module_of(task.benchmark).prepare(task)
        gc.collect()
        gc.freeze()  # otherwise each collection before a pass would traverse all modules, a tenth of a second
        timed = {name: time_runs(run, task) for name, run in prepared.passes.items()}
    except BackendWarning as error:
        sys.exit(f"benchmarks: {error}")
    except (ImportError, neurons.Skip, RuntimeError, TypeError) as error:
        return Measurement(skipped=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    seconds = {name: [total / prepared.times.get(name, 1) for total in runs] for name, runs in timed.items()}
    version, note = neurons.described(task.implementation)
    return Measurement(seconds, prepared.facts, prepared.bytes_moved, version, note)


def measure_isolated(task: Task) -> Measurement:
    """Measure in a new process with the same build of snnfast; the checkout of these files may lack kernels."""
    import snnfast
    from benchmarks import neurons

    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(task.threads),
        **getattr(neurons.module_of(task.benchmark), "ENVIRONMENT", KEEP_FREED),
    }
    package = Path(snnfast.__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(package=str(package), root=str(ROOT))],
        input=json.dumps(asdict(task)),
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [""]
        return Measurement(skipped=f"exit status {done.returncode}: {lines[-1]}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    from benchmarks import timing  # whose Seconds the baselines return

    arguments = json.load(sys.stdin)
    result = timing.measure(timing.Task(**{**arguments, "shape": tuple(arguments["shape"])}))
    print(json.dumps(asdict(result)))
