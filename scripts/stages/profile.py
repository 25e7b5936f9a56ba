"""Nsight Compute over one large call of some ops: bandwidth, occupancy and stalls of the kernels that take longest."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
from typing import Any

from .job import Job, PartError, Parts

METRICS = {
    "ns": "gpu__time_duration.sum",
    "bandwidth_percent": "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
    "issue_percent": "sm__inst_issued.avg.pct_of_peak_sustained_active",
    "occupancy_percent": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "bytes_read": "dram__bytes_read.sum",
    "bytes_written": "dram__bytes_write.sum",
    "registers": "launch__registers_per_thread",
    **{
        f"stall_{reason}": f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio"
        for reason in (
            "long_scoreboard",
            "short_scoreboard",
            "math_pipe_throttle",
            "lg_throttle",
            "barrier",
            "wait",
        )
    },
}
HOTTEST = 10
CHOSEN = (
    "lif",
    "cuba",
    "eif",
    "delay",
    "recurrent",
    "spike_count",
    "poisson",
    "stdp_",
    "diehl_cook_",
    "spikeprop",
)
SECONDS = 240


def parts(job: Job) -> Parts:
    return {"kernels": lambda: kernels(job)}


def kernels(job: Job) -> dict[str, Any]:
    words = [sys.executable, "-P", "-m", "stages.ops", job.device]
    if job.rehearse:
        code, text = job.command("ops", [*words, "--only", "lif"])
        if code != 0:
            raise PartError(f"the calls ended with {code}", text[-3000:])
        return {"kernels": []}
    program = shutil.which("ncu") or "/usr/local/cuda/bin/ncu"
    if shutil.which(program) is None:
        raise PartError("ncu was not found")
    options = ["--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none"]
    options += ["--kernel-name-base", "demangled", "--kernel-name", "regex:snnfast"]
    options += ["--metrics", ",".join(METRICS.values()), "--launch-count", "200"]
    code, text = job.command(
        "ncu", [program, *options, *words, "--large", "--only", *CHOSEN], SECONDS
    )
    rows = read(text)
    if not rows:
        raise PartError(f"ncu ended with {code} and no kernel", text[-3000:])
    return {"code": code, "kernels": hottest(rows)}


def read(text: str) -> list[dict[str, Any]]:
    """The launches in what ``ncu --csv --page raw`` prints: a line of names, one of units, one a launch."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    found = []
    for row in rows:
        values = {name: number(row.get(metric, "")) for name, metric in METRICS.items()}
        if row.get("Kernel Name") and values["ns"] is not None:
            found.append({"kernel": short(row["Kernel Name"]), **values})
    return found


def number(text: str | None) -> float | None:
    try:
        return float((text or "").replace(",", ""))
    except ValueError:
        return None


def short(name: str) -> str:
    """Without namespaces, types of the numbers among template arguments, and parameters."""
    unnamed = r"\(anonymous namespace\)::|<unnamed>::"  # as compilers and NVIDIA's tools have it
    return re.sub(rf"{unnamed}|void |snnfast::|\([\w:]+\)(?=\d)|\(.*", "", name)[:120]


def hottest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The longest launch of each kernel, those kernels first that take longest."""
    longest: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = longest.get(row["kernel"])
        if known is None or row["ns"] > known["ns"]:
            longest[row["kernel"]] = row
    return sorted(longest.values(), key=lambda row: -row["ns"])[:HOTTEST]
