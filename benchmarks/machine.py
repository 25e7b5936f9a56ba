"""Description of the machine and the software of a result."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    first = cpuinfo.read_text().split("\n\n")[0].splitlines()
    about = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first)}
    core = amd_core(int(about.get("cpu family", 0)), int(about.get("model", 0)))
    return about.get("model name", platform.machine()) + (f" ({core})" if core else "")


def amd_core(family: int, model: int) -> str:
    """Return the generation of an AMD processor, which a virtual machine may hide; "" for other processors."""
    if family == 25:
        return "Zen 4" if model in range(0x10, 0x20) or model >= 0x60 else "Zen 3"
    return "Zen 5" if family == 26 else ""


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else cpu_model()


def commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{git('rev-parse', '--short=12', 'HEAD')}{changed}"


def describe(device: str) -> dict[str, Any]:
    import snnfast

    build = snnfast.build_info()
    machine = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "snnfast": snnfast.__version__,
        # Without paths, because results are published.
        "build": {name: build[name] for name in ("cpu_isa", "compiler", "cuda_compiler")},
        "commit": commit(),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        machine |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
    return machine
