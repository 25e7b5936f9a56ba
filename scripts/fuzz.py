"""Fuzz ops, kernels, steps of own neurons and networks of other libraries with random arguments, many of them invalid.

    python scripts/fuzz.py                          2,000 cases of seed 0
    python scripts/fuzz.py --seed 7 --minutes 120   cases for two hours
    python scripts/fuzz.py --seed 7 --case 1234     a single case again
    python scripts/fuzz.py --only raw steps         some targets only

A case passes if its result equals that of the reference, or if it raises a TypeError, ValueError or RuntimeError that
names the problem and changes nothing. Crashes, hangs, other results, other errors, lost gradients and changed arguments
are findings. Cases run in worker processes, so that a crash is a finding, too. Exit code 1 with findings.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from fuzzing import foreign, ops, steps
from fuzzing.draw import Draw, Finding
from tqdm import tqdm

MEMORY = 8 << 30  # bytes of address space that a worker may allocate
# Targets, and their relative frequencies.
TARGETS: dict[str, tuple[Callable[[Draw], object], int]] = {
    "ops": (ops.try_op, 40),
    "raw": (ops.try_raw, 26),
    "libraries": (foreign.try_network, 3),
    "steps": (steps.try_step, 14),
}


def target_of(d: Draw, only: tuple[str, ...]) -> str:
    names = only or tuple(TARGETS)
    return d.choices(names, [TARGETS[name][1] for name in names])[0]


def run_case(seed: int, case: int, only: tuple[str, ...]) -> str:
    """Run a case and return its finding; empty if it passes."""
    d = Draw(f"{seed}:{case}")
    target = target_of(d, only)
    try:
        TARGETS[target][0](d)
        d.check_guards()
    except Finding as finding:
        return f"{target}: {finding}"
    except BaseException as error:
        return f"{target}: {type(error).__name__}: {error}\n{traceback.format_exc()}"
    return ""


def work(pipe: Connection, seed: int, only: tuple[str, ...]) -> None:
    """Run the cases whose numbers come through the pipe, and send their findings back, until None comes."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    while (case := pipe.recv()) is not None:
        pipe.send(run_case(seed, case, only))


class Worker:
    """A worker process and its current case."""

    def __init__(self, seed: int, only: tuple[str, ...]) -> None:
        self.pipe, child = multiprocessing.Pipe()
        # A fork needs no imports, so that a crash costs little time.
        context: Any = multiprocessing.get_context("fork")
        self.process = context.Process(target=work, args=(child, seed, only), daemon=True)
        self.process.start()
        child.close()
        self.case, self.started = -1, 0.0

    def give(self, case: int) -> None:
        """Start a case."""
        self.case, self.started = case, time.monotonic()
        self.pipe.send(case)

    def answer(self) -> str:
        """Return the finding of the case; call it when the pipe is readable."""
        try:
            found: str = self.pipe.recv()
            return found
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode or 0
            return f"crash: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()


def findings(
    seed: int, cases: Iterator[int], only: tuple[str, ...], workers: int, timeout: float
) -> Iterator[tuple[int, str]]:
    """Yield number and finding of every case, in the order in which they end; an empty finding means passed."""
    crew: dict[Any, Worker] = {}

    def next_case(worker: Worker | None) -> None:
        case = next(cases, None)
        if case is None:
            if worker:
                crew.pop(worker.pipe)
                worker.end()
            return
        if worker is None:
            worker = Worker(seed, only)
            crew[worker.pipe] = worker
        worker.give(case)

    try:
        for _ in range(workers):
            next_case(None)
        while crew:
            ready = wait(list(crew), timeout=0.2)
            for worker in list(crew.values()):
                late = time.monotonic() - worker.started > timeout
                if worker.pipe not in ready and not late:
                    continue
                found = worker.answer() if worker.pipe in ready else f"no end within {timeout:g} s"
                case = worker.case
                lost = found.startswith(("crash", "no end"))
                if lost:
                    crew.pop(worker.pipe)
                    worker.end()
                next_case(None if lost else worker)
                yield case, found
    finally:
        for worker in crew.values():
            worker.end()


def numbers(first: int, count: int | None, minutes: float | None) -> Iterator[int]:
    end = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    case = first
    while (count is None or case < first + count) and time.monotonic() < end:
        yield case
        case += 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, help="how many; 2000, or with --minutes no end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="for how long")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="only this case")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=(), help="only these targets")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds after which a case hangs")
    options = parser.parse_args(arguments)
    only, seed = tuple(options.only), options.seed
    if "libraries" in only and not foreign.LIBRARIES:
        parser.error("--only libraries: none is installed; pip install spikingjelly snntorch norse sinabs")
    count = 2000 if options.cases is None and options.minutes is None else options.cases
    first, count = (options.case, 1) if options.case is not None else (options.first, count)
    print(f"fuzz: seed {seed}", flush=True)
    found: dict[int, str] = {}
    cases = numbers(first, count, options.minutes)
    with tqdm(total=count, unit="case") as progress:
        for case, finding in findings(seed, cases, only, options.workers, options.timeout):
            progress.update()
            if finding:
                found[case] = finding
                words = f" --only {' '.join(only)}" if only else ""
                again = f"python scripts/fuzz.py --seed {seed} --case {case}{words}"
                progress.write(f"\ncase {case}: {finding}\n    {again}", file=sys.stdout)
    print(f"fuzz: seed {seed}, {progress.n} cases, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
