"""Tries and measures everything on a machine with a GPU, stage by stage, each in less than 8 minutes.

    python scripts/gpu.py                          all stages, results in ./gpu-results
    python scripts/gpu.py build smoke              some of them
    python scripts/gpu.py --folder DIR             results, logs and pictures go to DIR; goes on with what is there
    python scripts/gpu.py --again tests            a stage anew
    python scripts/gpu.py --rehearse               all stages on the CPU, at toy size: does the script itself work?
    python scripts/gpu.py --page --docs            no stage: the page from what there is, and docs/gpu.md

A stage is parts; each leaves its result in DIR/results.json as soon as it ends, and its log in DIR/logs. DIR/page.md
and DIR/shares.png are made from that. A part that fails is a result; a process that crashes costs one part; what one
run has no time for, or cuts off, the next goes on with. Exit code 1 if a part failed or was not run.
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
from stages.job import LIMIT, LOST, ROOT, Job

sys.path.append(str(ROOT))  # for the benchmarks

STAGES = ("build", "smoke", "tests", "sanitizer", "neurons", "network", "plasticity", "profile")
CRASHES = 20  # of one stage, after which it ends


def inside(stage: str, folder: Path, rehearse: bool, limit: float) -> int:
    """One stage in this process."""
    work = Job(stage, folder, rehearse, limit)
    try:
        parts = importlib.import_module(f"stages.{stage}").parts(work)
    except Exception as error:
        work.parts["start"] = job.failure(error)
        work.keep()
        return 1
    return work.run(parts)


def outside(stage: str, folder: Path, rehearse: bool) -> None:
    """One stage in a process of its own, and another one after a crash."""
    deadline = time.monotonic() + LIMIT
    for _ in range(CRASHES):
        left = deadline - time.monotonic()
        tree = Job(stage, folder, rehearse).tree
        words = [sys.executable, __file__, stage, "--folder", str(folder), "--inside", f"{left}"]
        environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONUNBUFFERED": "1"}
        with (folder / "logs" / f"{stage}.log").open("a") as log:
            try:
                code = subprocess.run(
                    words + ["--rehearse"] * rehearse,
                    env=environment,
                    cwd=tree,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=max(left, 1) + 10,
                ).returncode
            except subprocess.TimeoutExpired:
                Job(stage, folder, rehearse).cut_off()
                return
        if code >= 0 and code != LOST:
            return


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--folder", type=Path, default=Path("gpu-results"))
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
    if chosen.inside is not None:
        return inside(chosen.stages[0], folder, chosen.rehearse, chosen.inside)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    failed = 0
    for stage in () if chosen.page else chosen.stages or STAGES:
        if chosen.again:
            job.write(folder, {n: s for n, s in job.results(folder).items() if n != stage})
        begin = time.monotonic()
        outside(stage, folder, chosen.rehearse)
        parts = job.results(folder).get(stage, {"parts": {"start": {"state": "failed"}}})["parts"]
        states = [part["state"] for part in parts.values()]
        bad = sum(state not in ("done", "skipped") for state in states)
        failed += bad
        seconds = time.monotonic() - begin
        print(
            f"{stage}: {len(states)} parts, {bad} not as they should, {seconds:.0f} s", flush=True
        )
    page.write(folder, ROOT / "docs/gpu.md" if chosen.docs else None)
    print(folder / "page.md")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
