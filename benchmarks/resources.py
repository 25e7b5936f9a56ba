"""Registers, shared memory and spills of the CUDA kernels, reported by nvcc; needs no GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import neurons
from snnfast.compiler.neurons import write

CSRC = Path(__file__).resolve().parents[1] / "csrc"
FLAGS = ("-std=c++17", "-O3", "--fmad=false")


class ReportedKernel(NamedTuple):
    source: str
    name: str
    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


def nvcc() -> str | None:
    homes = (os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH"))
    tries = (os.environ.get("CUDACXX"), *(f"{home}/bin/nvcc" for home in homes if home), "nvcc")
    return next((found for name in tries if name and (found := shutil.which(name))), None)


def demangle(names: list[str]) -> list[str]:
    tool = shutil.which("cu++filt") or shutil.which("c++filt")
    if tool is None:
        return names
    done = subprocess.run([tool], input="\n".join(names), capture_output=True, text=True)
    # Only name and template arguments, which determine the parameters.
    return [shorten(line) for line in done.stdout.splitlines()]


def shorten(name: str) -> str:
    name = re.sub(r"\(anonymous namespace\)::|^void |snnfast::|cuda::|\([A-Za-z_:]+\)(?=\d)", "", name)
    depth = 0
    for i, character in enumerate(name):
        depth += (character == "<") - (character == ">")
        if character == "(" and depth == 0:
            return name[:i]
    return name


def parse(source: str, log: str) -> list[ReportedKernel]:
    """Parse the output of ``nvcc --resource-usage``."""
    kernels: list[ReportedKernel] = []
    for block in log.split("Compiling entry function '")[1:]:
        mangled = block.partition("'")[0]
        # Function properties of device functions may precede those of the kernel.
        _, _, properties = block.partition(f"Function properties for {mangled}")
        memory = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", properties)
        registers = re.search(r"Used (\d+) registers", properties)
        shared = re.search(r"(\d+) bytes smem", properties)
        if memory is None or registers is None:
            raise ValueError(f"{source}: cannot read nvcc's report on {mangled}")
        stack, stores, loads = map(int, memory.groups())
        kernels.append(
            ReportedKernel(source, mangled, int(registers[1]), int(shared[1]) if shared else 0, stack, stores + loads)
        )
    names = demangle([kernel.name for kernel in kernels])
    return [kernel._replace(name=name) for kernel, name in zip(kernels, names)]


def sources(folder: Path) -> list[Path]:
    """Return the CUDA sources; those of neurons are generated in ``folder``, as in CMakeLists.txt."""
    write(str(folder / "core"))
    for template, prefix in (("neuron", ""), ("recurrent_neuron", "recurrent_")):
        text = (CSRC / f"cuda/{template}.cu.in").read_text()
        for stem in neurons.stems():
            content = text.replace("@stem@", stem).replace("@Neuron@", stem.capitalize())
            (folder / f"{prefix}{stem}.cu").write_text(content)
    return sorted([*(CSRC / "cuda").glob("*.cu"), *folder.glob("*.cu")], key=lambda path: path.name)


def compile_kernels(
    compiler: str, arch: str, source: Path, options: Sequence[str] = ("-c", "-o", os.devnull)
) -> list[ReportedKernel]:
    """Compile ``source`` with the flags of CMakeLists.txt and ``options``, and parse the compiler's report.

    Raises:
        RuntimeError: with nvcc's message if it does not compile.
    """
    flags = [f"-arch={arch}", *FLAGS, f"-I{CSRC}", f"-I{source.parent}"]
    done = subprocess.run([compiler, "--resource-usage", *flags, *options, str(source)], capture_output=True, text=True)
    log = done.stdout + done.stderr
    if done.returncode != 0:
        raise RuntimeError(f"nvcc could not compile {source.name}:\n{log}")
    return parse(source.name, log)
