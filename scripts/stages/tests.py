"""The tests of CUDA, with a missing GPU as an error; which fail, by the file that they stand in."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from .job import Job, PartError, Parts

ON_CUDA = "cuda and not emulation"
# Each file of tests is in the first group whose pattern it fits; a group must end within a call.
GROUPS = {
    "neurons": r"tests/ops/test_(adlif|alif|cuba|eif|izhikevich|lif|qif|refractory)\.py",
    "plasticity": r"tests/ops/test_(stdp|bp_stdp|diehl_cook|presentations)",
    "ops": r"tests/(ops|property|reference)/",
    "modules": r"tests/(nn|convert|nir|export|encoder|learning)/",
    "models": r"tests/(procedure|model|manual|examples|data|monitoring)/",
    "rest": r"tests/",
}
REHEARSED = {"ops": ["tests/ops/test_alif.py", "-k", "worked_by_hand"]}
NONE_CHOSEN = 5  # pytest's exit code where no test is one of CUDA
MEMORY = 3 << 30  # bytes of a GPU that a process of the suite may take


def parts(job: Job) -> Parts:
    groups = REHEARSED if job.rehearse else grouped(job.tree)
    return {name: partial(suite, job, name, chosen) for name, chosen in groups.items()}


def grouped(tree: Path) -> dict[str, list[str]]:
    """The files of tests in each group."""
    found: dict[str, list[str]] = {name: [] for name in GROUPS}
    for file in sorted(tree.glob("tests/**/test_*.py")):
        path = file.relative_to(tree).as_posix()
        found[next(name for name, which in GROUPS.items() if re.match(which, path))].append(path)
    return found


def processes() -> int:
    import torch

    fit = torch.cuda.mem_get_info()[0] // MEMORY if torch.cuda.is_available() else 1
    return max(1, min(os.cpu_count() or 1, int(fit)))


def suite(job: Job, name: str, chosen: list[str]) -> dict[str, Any]:
    count = 1 if job.rehearse else processes()
    words = [sys.executable, "-P", "-m", "pytest", "-vv", "--tb=short", "-n", str(count), *chosen]
    variables = {} if job.rehearse else {"SNNFAST_FAIL_WITHOUT_CUDA": "1"}
    words += [] if job.rehearse else ["-k", ON_CUDA]
    code, text = job.command(name, words, environment=variables)
    found = {"processes": count, "code": code, **summary(text)}
    if code == 0 or (code == NONE_CHOSEN and not job.rehearse):
        return found
    raise PartError(
        f"pytest ended with {code}: {sum(map(len, found['failed'].values()))} failed",
        found if found["failed"] else {**found, "output": text[-3000:]},
    )


def summary(text: str) -> dict[str, Any]:
    """Counts, and the failures by file with pytest's last words on each, of what ``pytest -vv -n`` prints."""
    ended = re.findall(r"^\[gw\d+\].*? (PASSED|FAILED|ERROR|SKIPPED) (\S+?)::(.*?)\s*$", text, re.M)
    errors = dict(re.findall(r"^(?:FAILED|ERROR) (\S+?::.*?) - (.*)$", text, re.M))
    failed: dict[str, dict[str, str]] = {}
    for outcome, file, test in ended:
        if outcome in ("FAILED", "ERROR"):
            failed.setdefault(file, {})[test] = errors.get(f"{file}::{test}", "")[:300]
    counts = Counter(outcome for outcome, _, _ in ended)
    return {"passed": counts["PASSED"], "skipped": counts["SKIPPED"], "failed": failed}
