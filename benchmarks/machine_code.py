"""Registers, spills and instructions of the hot kernels: every neuron, forward and backward, fp32 and bf16.

Parameters are numbers; LIF also has kernels for tensors. The surrogate is the default, which has specialised kernels.
``results/machine-code.json`` stores the counts; a kernel must not get worse. Instructions are counted statically over
the whole kernel, with unrolled loops.

Needs nvcc and nvdisasm (a CUDA toolkit, or ``pip install nvidia-cuda-nvdisasm``), and no GPU.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import site
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks import compact, neurons, resources
from snnfast.compiler.neurons import write

STORED = Path(__file__).parent / "results/machine-code.json"
ARCH = "sm_90"
ELEMENTS = ("float", "BFloat16")
PASSES = {"forward": "", "backward": ", Surrogate::atan"}  # and more template arguments
# Only these kernels, with several neurons per thread and with one.
SOURCE = """#include "core/{stem}.h"

#include "cuda/neuron_launch.cuh"

namespace snnfast {{
int hot(const NeuronForward<{neuron}>& f, const NeuronBackward<{neuron}>& b, cudaStream_t s) {{
  return {calls};
}}
}}  // namespace snnfast
"""


class Code(NamedTuple):
    """Counts of a kernel; registers and spilled bytes are per thread."""

    kernel: str
    registers: int
    spill_bytes: int
    instructions: int


def nvdisasm() -> str | None:
    wheels = [f"{root}/nvidia/cu13/bin/nvdisasm" for root in site.getsitepackages()]
    compiler = resources.nvcc()
    next_to_nvcc = [str(Path(compiler).parent / "nvdisasm")] if compiler else []
    tries = ["nvdisasm", *next_to_nvcc, *wheels]
    return next((found for name in tries if (found := shutil.which(name))), None)


def tools() -> tuple[str, str]:
    """Return the paths of nvcc and nvdisasm.

    Raises:
        RuntimeError: if there are none.
    """
    compiler, disassembler = resources.nvcc(), nvdisasm()
    if compiler is None or disassembler is None:
        raise RuntimeError(
            "nvcc and nvdisasm are needed: put them on PATH, or set CUDA_HOME and pip install nvidia-cuda-nvdisasm"
        )
    return compiler, disassembler


def release() -> str:
    """Return the release of nvcc."""
    asked = [tools()[0], "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def codes(compiler: str, disassembler: str, stem: str, folder: Path) -> list[Code]:
    neuron = stem.capitalize()
    numbers = ("true", "false") if stem == "lif" else ("true",)
    calls = [
        f"launch_{name}<{neuron}, float, {element}, Reset::hard, {known}{surrogate}>({name[0]}, s)"
        for known in numbers
        for name, surrogate in PASSES.items()
        for element in ELEMENTS
    ]
    source, cubin = folder / f"{stem}.cu", folder / f"{stem}.cubin"
    write(str(folder / "core"))
    source.write_text(SOURCE.format(stem=stem, neuron=neuron, calls=" + ".join(calls)))
    options = ["-cubin", "-o", str(cubin)]
    kernels = resources.compile_kernels(compiler, ARCH, source, options)
    listing = subprocess.run([disassembler, "-hex", str(cubin)], capture_output=True, text=True, check=True).stdout
    counted = instructions(listing)
    return sorted(Code(k.name, k.registers, k.spill_bytes, counted[k.name]) for k in kernels)


def instructions(listing: str) -> dict[str, int]:
    """Return the number of instructions of each kernel, by its demangled name."""
    found: dict[str, int] = {}
    name = ""
    for line in listing.splitlines():
        if m := re.match(r"\s*\.section\s+\.text\.(\S+?),", line):
            name = m[1]
            found[name] = 0
        elif name and re.search(r"/\*[0-9a-f]{4,}\*/\s+.*?;\s+/\* 0x[0-9a-f]{16} \*/", line):
            found[name] += 1
    return dict(zip(resources.demangle(list(found)), found.values()))


def measure() -> list[Code]:
    """Return the counts of the hot kernels of every neuron.

    Raises:
        RuntimeError: without nvcc or nvdisasm, or if nvcc refuses a kernel.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = [codes(*tools(), stem, Path(folder)) for stem in neurons.stems()]
    return [code for counts in found for code in counts]


def digest() -> str:
    """Return a digest of the headers of these kernels, without comments and spaces, and of the options."""
    with tempfile.TemporaryDirectory() as folder:
        write(folder)
        files = [*sorted(Path(folder).glob("*.h")), resources.CSRC / "cuda/neuron_launch.cuh"]
        for file in files:  # add included headers
            for name in re.findall(r'#include "(.+)"', file.read_text()):
                if (header := resources.CSRC / name).exists() and header not in files:
                    files.append(header)
        text = [SOURCE, *map(str, resources.FLAGS), *(file.read_text() for file in files)]
    words = re.sub(r"//.*", "", "\n".join(text)).split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


class Stored(NamedTuple):
    """``machine-code.json``: the release of nvcc, :func:`digest`, and the code."""

    nvcc: str
    sources: str
    kernels: list[Code]


def stored() -> Stored:
    document = json.loads(STORED.read_text())
    return Stored(**document | {"kernels": [Code(**row) for row in document["kernels"]]})


def keep(compiler: str, found: Iterable[Code]) -> None:
    rows = [code._asdict() for code in found]
    compact.write(STORED, Stored(compiler, digest(), rows)._asdict())


def worse(before: Iterable[Code], found: list[Code]) -> list[str]:
    """Return a sentence for each figure that got worse."""
    rows = {code.kernel: code for code in before}
    complaints = [f"{name} is no more" for name in rows.keys() - {code.kernel for code in found}]
    for code in found:
        for key, old, new in zip(Code._fields[1:], rows.get(code.kernel, code)[1:], code[1:]):
            if new > old:
                complaints.append(f"{code.kernel}: {key.replace('_', ' ')} was {old}, is {new}")
    return complaints
