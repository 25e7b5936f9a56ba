"""Tries and measures everything on a machine with a GPU, in calls of at most 9 minutes.

    python scripts/gpu.py                          as many stages as fit, results in ./gpu-results; again: goes on
    python scripts/gpu.py build smoke              some stages
    python scripts/gpu.py --minutes 20             a longer call
    python scripts/gpu.py --archive FILE           results, logs and page, packed after every part
    python scripts/gpu.py --again tests            a stage anew
    python scripts/gpu.py --rehearse               all stages on the CPU, at toy size: does the script itself work?
    python scripts/gpu.py --page --docs            no stage: the page from what there is, and docs/gpu.md

Stages stand in the order of what is worth most. Each is parts; a part leaves its result in DIR/results.json as soon as
it ends, and its log in DIR/logs. A part that fails is a result; a process that crashes costs one part; what one call
has no time for, or cuts off, the next goes on with. Without the kernels of this build on this GPU nothing is measured.
Exit code 1 if a part failed or was not run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from stages import job, page
from stages.job import LOST, ROOT, Job

sys.path.append(str(ROOT))  # for the benchmarks

# Where the parts of a stage are made.
STAGES = {
    "build": "build:parts",
    "smoke": "smoke:parts",
    "neurons": "timings:scans",
    "plasticity": "timings:plasticity",
    "sanitizer": "sanitizer:parts",
    "tests": "tests:parts",
    "network": "timings:networks",
    "profile": "profile:parts",
    "others": "timings:others",
    "compile": "smoke:compile",
}
CRASHES = 20  # of one stage, after which it ends


def inside(work: Job) -> int:
    """One stage in this process."""
    module, _, name = STAGES[work.stage].partition(":")
    try:
        if work.stage != "build":
            work.demand_kernels()
        parts = getattr(importlib.import_module(f"stages.{module}"), name)(work)
    except Exception as error:
        work.parts["start"] = job.failure(error)
        work.keep()
        return 1
    return work.run(parts)


def outside(work: Job, deadline: float) -> None:
    """One stage in a process of its own, and another one after a crash."""
    for _ in range(CRASHES):
        left = deadline - time.monotonic()
        words = [sys.executable, __file__, work.stage, "--folder", str(work.folder)]
        words += ["--archive", str(work.archive), "--inside", f"{left}"]
        tree = work.tree
        environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONUNBUFFERED": "1"}
        with (work.folder / "logs" / f"{work.stage}.log").open("a") as log:
            try:
                code = subprocess.run(
                    words + ["--rehearse"] * work.rehearse,
                    env=environment,
                    cwd=tree,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=max(left, 1) + 5,
                ).returncode
            except subprocess.TimeoutExpired:
                Job(work.stage, work.folder, work.rehearse, archive=work.archive).cut_off()
                return
        if code >= 0 and code != LOST:
            return


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--folder", type=Path, default=Path("gpu-results"))
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call")
    parser.add_argument("--archive", type=Path, help="default: results.tar.gz in the folder")
    parser.add_argument("--again", action="store_true", help="what is done is done anew")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy size")
    parser.add_argument("--page", action="store_true", help="no stage, only the page")
    parser.add_argument("--docs", action="store_true", help="write the page into docs/gpu.md")
    parser.add_argument("--inside", type=float, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.stages) - set(STAGES)
    if unknown:
        parser.error(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    folder = chosen.folder.resolve()
    archive = chosen.archive.resolve() if chosen.archive else folder / "results.tar.gz"
    if chosen.inside is not None:
        return inside(Job(chosen.stages[0], folder, chosen.rehearse, chosen.inside, archive))
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    deadline = (
        time.monotonic() + 60 * chosen.minutes - 10
    )  # to end the last part, and to write the page
    failed = 0
    for stage in () if chosen.page else chosen.stages or STAGES:
        if chosen.again:
            job.write(folder, {n: s for n, s in job.results(folder).items() if n != stage})
        begin = time.monotonic()
        if begin >= deadline:
            print(f"{stage}: not begun; the next call goes on here", flush=True)
            failed += 1
            continue
        outside(Job(stage, folder, chosen.rehearse, archive=archive), deadline)
        parts = job.results(folder).get(stage, {"parts": {"start": {"state": "failed"}}})["parts"]
        states = [part["state"] for part in parts.values()]
        bad = sum(state not in ("done", "skipped") for state in states)
        failed += bad
        seconds = time.monotonic() - begin
        print(
            f"{stage}: {len(states)} parts, {bad} not as they should, {seconds:.0f} s", flush=True
        )
        if "start" in parts:
            print(f"{stage}: {parts['start'].get('error', 'ended before its first part')}")
    page.write(folder, ROOT / "docs/gpu.md" if chosen.docs else None)
    job.pack(folder, archive)
    print(folder / "page.md")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
