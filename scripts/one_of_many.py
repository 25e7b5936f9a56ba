"""Measure one process of many in a simulation: its synapses, its memory, and its time without a network.

The spikes of the other processes come from a run of one process: ``python scripts/one_of_many.py 16 RUN --rank 10``,
where RUN is the folder of ``snnfast simulate microcircuit --out RUN``. The process checks that its spikes are those of
the run.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from snnfast import connect
from snnfast_zoo.papers.procedures import SIMULATIONS


def replayed(rank: int, size: int, run: Path) -> type[connect.Part]:
    """Return a type of part that receives the spikes of a run."""
    stored = np.load(run / "events.npz")
    step, neuron = stored["step"].astype(np.int64), stored["neuron"].astype(np.int64)

    class Replayed(connect.Part):
        """The neurons of a process that is alone; its messages are those that all would have sent."""

        def __init__(self, neurons: int) -> None:
            super().__init__(neurons)
            self.rank, self.size = rank, size
            self.neurons = range(rank * neurons // size, (rank + 1) * neurons // size)
            self.until = 0  # steps of the call so far

        def exchange(self, first: int, samples: int, t: int, sent: Any) -> Any:
            self.until = t
            return super().exchange(first, samples, t, sent)

        def _gathered(self, numbers: Any, room: int) -> tuple[Any, int]:
            if not self.until:  # the call begins
                return np.tile(numbers, size), len(numbers)
            begin = self._steps + (self.until - 1) // self._window * self._window
            low, high = np.searchsorted(step, [begin, self._steps + self.until])
            codes = (step[low:high] - begin) * self.total + neuron[low:high]
            here = codes % self.total
            here = codes[(here >= self.neurons.start) & (here < self.neurons.stop)]
            if not np.array_equal(np.sort(numbers), here):
                raise RuntimeError(f"the spikes of process {rank} of {size} differ from those of the run")
            return codes.astype(numbers.dtype), len(codes)

        def begin(self, *arguments: Any) -> Any:
            self.until = 0
            return super().begin(*arguments)

        def gather(self, events: Any) -> Any:
            return events

    return Replayed


def main() -> None:
    """Build and run the process; print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("processes", type=int, help="number of processes")
    parser.add_argument("run", type=Path, help="folder of a finished run of one process")
    parser.add_argument("--rank", type=int, default=0, help="number of the process, from 0")
    options = parser.parse_args()
    stored = json.loads((options.run / "result.json").read_text())
    simulation = next(s for s in SIMULATIONS if s.name == stored["simulation"])
    settings = simulation.settings(**stored["settings"])
    connect.Part = replayed(options.rank, options.processes, options.run)  # type: ignore[misc]
    start = time.perf_counter()
    network = simulation.build(settings)
    built, c = time.perf_counter() - start, network.connectivity
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    network.call(0)
    start = time.perf_counter()
    network.run(round(1000 * settings.seconds / network.dt))
    seconds = (time.perf_counter() - start) / settings.seconds
    print(f"process {options.rank} of {options.processes}: {len(c):,} synapses of {c.nbytes / len(c):.1f} bytes and")
    print(f"their weights, built in {built:.1f} s, peak {peak:.2f} GB, {seconds:.2f} s a second,")
    print(
        f"{network.part.seconds / settings.seconds:.2f} s of it in {network.part.exchanges} exchanges without a network"
    )


if __name__ == "__main__":
    main()
