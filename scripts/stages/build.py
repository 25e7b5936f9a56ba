"""A build for the card that is there, from a clean copy of the sources, without a network, with the PyTorch here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .job import ROOT, Job, PartError, Parts

MADE = ("build", "dist", "site", "*.so", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


def parts(job: Job) -> Parts:
    if not job.built:
        job.parts.pop("build", None)  # results that came from another machine, without its build
    return {"environment": environment, "build": lambda: build(job)}


def output(*words: str) -> str:
    """The last line that a command prints; empty if there is no such command."""
    if shutil.which(words[0]) is None:
        return ""
    done = subprocess.run(words, capture_output=True, text=True)
    return (done.stdout.strip().splitlines() or [""])[-1]


def environment() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "nvcc": output(os.environ.get("CUDACXX", "nvcc"), "--version"),
        "cores": os.cpu_count(),
        "gpu": None,
    }
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": card.name,
            "gpus": torch.cuda.device_count(),
            "capability": f"{card.major}.{card.minor}",
            "multiprocessors": card.multi_processor_count,
            "memory_bytes": card.total_memory,
            "driver": output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        }
    return found


def build(job: Job) -> dict[str, Any]:
    tree = job.folder / "tree"
    for old in tree.glob("*"):  # but not its object files: a build that was cut off goes on
        if old.name != "build":
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    made = shutil.ignore_patterns(*MADE, ".git")

    def ignored(folder: str, names: list[str]) -> set[str]:
        ours = {job.folder.name} if Path(folder) == job.folder.parent else set()
        return made(folder, names) | ours

    shutil.copytree(ROOT, tree, ignore=ignored, symlinks=True, dirs_exist_ok=True)
    setup = [sys.executable, "setup.py", "-q", "egg_info"]
    variables = {"SNNFAST_CUDA": "1", "SNNFAST_EMULATION": "0"}
    card = job.parts["environment"].get("result", {}).get("capability")
    if job.rehearse:
        for library in ROOT.glob("snnfast/*.so"):  # what is compiled is compiled
            shutil.copy2(library, tree / "snnfast")
    elif card is None:
        raise PartError("PyTorch sees no GPU", job.parts["environment"])
    else:
        variables["TORCH_CUDA_ARCH_LIST"] = card
        setup += ["build_ext", "--inplace"]
    code, text = job.command("setup", setup, environment=variables)
    if code != 0:
        raise PartError(f"setup.py ended with {code}", text[-3000:])
    inform = "import json, snnfast; print(json.dumps(snnfast.build_info()))"
    code, text = job.command("import", [sys.executable, "-P", "-c", inform])
    if code != 0:
        raise PartError(f"import snnfast ended with {code}", text[-3000:])
    return {"tree": str(tree), "info": text.splitlines()[-1]}
