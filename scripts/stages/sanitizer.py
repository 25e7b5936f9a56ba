"""compute-sanitizer's four tools over one small call of every kernel, and over neurons that fill the GPU."""

from __future__ import annotations

import re
import shutil
import sys
from functools import partial
from typing import Any

from .job import Job, PartError, Parts, SkippedError

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
SECONDS = 220  # of one tool over one list
# What is tried: ops that have kernels on CUDA (the others are PyTorch's, whose libraries read workspaces that nobody
# wrote) and the ways that blocks meet; and so many neurons that a thread has several.
OURS = (
    "lif",
    "alif",
    "normlif",
    "delay",
    "spike_count",
    "poisson",
    "stdp_",
    "bp_stdp_",
    "spikeprop",
    "recurrent",
)
MANY = ("lif", "cuba", "adlif", "delay")
LISTS = {
    "ops": ["-m", "stages.ops", "cuda", "--meeting", "--only", *OURS],
    "many": ["-m", "stages.ops", "cuda", "--large", "--only", *MANY],
}
# The same on the CPU, at toy size.
REHEARSED = {
    "ops": ["-m", "stages.ops", "cpu", "--meeting", "--only", *OURS],
    "many": ["-m", "stages.ops", "cpu", "--only", *MANY],
}


def parts(job: Job) -> Parts:
    return {f"{tool} {name}": partial(check, job, tool, name) for tool in TOOLS for name in LISTS}


def check(job: Job, tool: str, name: str) -> dict[str, Any]:
    words = [sys.executable, "-P", *(REHEARSED if job.rehearse else LISTS)[name]]
    if job.rehearse:
        if tool != TOOLS[0]:
            raise SkippedError("a rehearsal runs each list once, without a tool")
    else:
        program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if shutil.which(program) is None:
            raise PartError("compute-sanitizer was not found")
        options = ["--target-processes", "all", "--error-exitcode", "9", "--print-limit", "20"]
        # PyTorch asks the driver for functions that it may lack; those that must not fail raise.
        options += ["--report-api-errors", "no"]
        # Our kernels alone; what PyTorch's write must be known to find what nobody has written.
        options += [] if tool == "initcheck" else ["--kernel-name", "kernel_substring=snnfast"]
        words = [program, "--tool", tool, *options, *words]
    # Each tensor an allocation of its own, or writing behind it would be writing into a neighbour.
    variables = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    code, text = job.command(f"{tool}-{name}", words, SECONDS, variables)
    found = {"errors": errors(text), "code": code}
    if code is None:
        raise PartError("not finished in time", found)
    if code or found["errors"]:
        raise PartError(
            f"{found['errors']} errors, exit code {code}", {**found, "output": text[-3000:]}
        )
    return found


def errors(text: str) -> int:
    """How many a tool counts at its end."""
    found = re.findall(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)", text)
    return sum(map(int, found))
