"""The machine code of the hot kernels: every neuron, forward and backward, fp32 and bf16, parameters that are numbers.

Of each, and of the loop that has most loads in flight: registers, spills, loads that are issued before one is waited
for, the bytes of a load and of a store, instructions an element. ``machine-code.json`` keeps them; a kernel may get
better, not worse. Instructions are counted as they stand: those of all seven surrogates in the backward pass.

Needs nvcc and nvdisasm (a CUDA toolkit, or ``pip install nvidia-cuda-nvdisasm``), and no GPU. Scoreboards are read from
the control bits of instructions of sm_70 to sm_90: bits 105 to 125 of 128 are stall, yield, write and read barrier and
wait mask.
"""

from __future__ import annotations

import json
import re
import shutil
import site
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import neurons, report, resources

KEPT = Path(__file__).parent / "results/machine-code.json"
ARCH = "sm_90"
DTYPES = {"float32": ("float", 4), "bfloat16": ("BFloat16", 2)}
PASSES = ("forward", "backward")
# Only these kernels, each with several neurons a thread and with one.
SOURCE = """#include "core/{stem}.h"

#include "cuda/neuron_kernel.cuh"

namespace snnfast {{
int hot(const NeuronForward<{neuron}>& f, const NeuronBackward<{neuron}>& b, cudaStream_t s) {{
  return {calls};
}}
}}  // namespace snnfast
"""


class Card(NamedTuple):
    bytes_a_second: float
    multiprocessors: int
    hertz: float


# Bandwidth as NVIDIA states it, and the clock under load.
CARDS = {
    "A100": Card(2.04e12, 108, 1.41e9),
    "H100": Card(3.35e12, 132, 1.75e9),
    "H200": Card(4.80e12, 132, 1.75e9),
    "B200": Card(8.00e12, 148, 1.85e9),
}
LATENCY = 7e-7  # seconds until a load from memory is there, under load
THREADS = 128  # of a block


class Code(NamedTuple):
    """One kernel. Words that a loop loads or stores are those of most bytes in it."""

    kernel: str
    registers: int
    spill_bytes: int
    loads_in_flight: int
    load_bytes: int
    store_bytes: int
    narrow_stores: int
    instructions_an_element: float


WORSE = {  # by which sign a change is one for the worse
    **dict.fromkeys(("registers", "spill_bytes", "narrow_stores", "instructions_an_element"), 1),
    **dict.fromkeys(("loads_in_flight", "load_bytes", "store_bytes"), -1),
}


def nvdisasm() -> str | None:
    wheels = [f"{root}/nvidia/cu13/bin/nvdisasm" for root in site.getsitepackages()]
    compiler = resources.nvcc()
    beside = [str(Path(compiler).parent / "nvdisasm")] if compiler else []
    tries = ["nvdisasm", *beside, *wheels]
    return next((found for name in tries if (found := shutil.which(name))), None)


def release(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def codes(compiler: str, disassembler: str, stem: str, folder: Path) -> list[Code]:
    neuron = stem.capitalize()
    calls = [
        f"launch_{name}<{neuron}, float, {element}, Reset::hard, true>({name[0]}, s)"
        for name in PASSES
        for element, _ in DTYPES.values()
    ]
    source, cubin = folder / f"{stem}.cu", folder / f"{stem}.cubin"
    source.write_text(SOURCE.format(stem=stem, neuron=neuron, calls=" + ".join(calls)))
    flags = [f"-arch={ARCH}", "-std=c++17", "-O3", "--fmad=false", "-I", str(resources.CSRC)]
    done = subprocess.run(
        [compiler, "--resource-usage", "-cubin", *flags, "-o", str(cubin), str(source)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"nvcc could not compile {stem}:\n{done.stderr}")
    used = {kernel.name: kernel for kernel in resources.parse(stem, done.stdout + done.stderr)}
    listing = subprocess.run(
        [disassembler, "-hex", str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    found = [
        code(name, instructions(lines), used[name]) for name, lines in functions(listing).items()
    ]
    return sorted(found)


def functions(listing: str) -> dict[str, list[str]]:
    """The lines of each kernel, by its name as :func:`benchmarks.resources.demangle` has it."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in listing.splitlines():
        if m := re.match(r"\s*\.section\s+\.text\.(\S+?),", line):
            lines = found.setdefault(m[1], [])
        lines.append(line)
    return dict(zip(resources.demangle(list(found)), found.values()))


class Instruction(NamedTuple):
    text: str
    writes: int  # the scoreboard that it releases when its result is there; 7: none
    waits: int  # a bit for each that it waits for


def instructions(lines: list[str]) -> tuple[list[Instruction], dict[str, int]]:
    """The instructions, and where labels stand."""
    found: list[Instruction] = []
    labels: dict[str, int] = {}
    for line, after in zip(lines, [*lines[1:], ""]):
        if m := re.match(r"\s*(\.L_x_\d+):", line):
            labels[m[1]] = len(found)
        elif m := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);\s+/\* 0x[0-9a-f]{16} \*/", line):
            high = re.search(r"/\* 0x([0-9a-f]{16}) \*/", after)
            control = int(high[1], 16) >> (105 - 64) if high else 7 << 5
            found.append(Instruction(m[1].strip(), control >> 5 & 7, control >> 11 & 0x3F))
    return found, labels


def loops(found: list[Instruction], labels: dict[str, int]) -> list[list[Instruction]]:
    jumps = [
        (labels.get(m[1], end), end)
        for end, each in enumerate(found)
        if (m := re.search(r"BRA(?:\.\S+)?\s+.*`\((\.L_x_\d+)\)", each.text))
    ]
    return [found[begin : end + 1] for begin, end in jumps if end - begin > 3]


def in_flight(loop: list[Instruction]) -> int:
    """Loads from global memory that are issued before one of them is waited for, at most."""
    pending: dict[int, int] = {}
    most = 0
    for each in loop:
        most = max(most, sum(pending.values()))
        for board in [board for board in pending if each.waits >> board & 1]:
            del pending[board]
        if is_load(each) and each.writes != 7:
            pending[each.writes] = pending.get(each.writes, 0) + 1
    return max(most, sum(pending.values()))


def is_load(each: Instruction) -> bool:
    return re.search(r"\bLDG\b", each.text) is not None


def word(each: Instruction) -> int:
    """Bytes that a load or store moves."""
    width = re.search(r"\b(?:LDG|STG)\S*\.(128|64|U16|U8|S16)\b", each.text)
    return {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1}[width[1]] if width else 4


def code(
    name: str, parsed: tuple[list[Instruction], dict[str, int]], used: resources.Kernel
) -> Code:
    candidates = [loop for loop in loops(*parsed) if any(map(is_load, loop))]
    # A loop around loops counts their loads again: of equals the shortest.
    best = max(candidates, key=lambda loop: (in_flight(loop), -len(loop)))
    loads = [word(each) for each in best if is_load(each)]
    stores = [word(each) for each in best if re.search(r"\bSTG\b", each.text)]
    lanes = int(re.search(r", (\d+), true>", name)[1])  # type: ignore[index]
    streams = 2 if "backward" in name else 1  # gradients of spikes and of membranes
    elements = lanes * len(loads) / streams
    item = min(loads) // lanes
    return Code(
        name.removeprefix("neuron_"),
        used.registers,
        used.spill_bytes,
        in_flight(best),
        max(loads),
        max(stores),
        sum(width < item * lanes for width in stores),
        round(len(best) / elements, 1),
    )


def blocks(code: Code) -> int:
    """How many blocks its registers let a multiprocessor hold at a time."""
    return min(65536 // (THREADS * -(-code.registers // 8) * 8), 2048 // THREADS)


def shares(code: Code) -> dict[str, float]:
    """The share of each card's bandwidth that a forward pass can reach by its loads in flight and its instructions."""
    item = 2 if "BFloat16" in code.kernel else 4
    found = {}
    for name, card in CARDS.items():
        flying = (
            code.loads_in_flight * code.load_bytes * blocks(code) * THREADS * card.multiprocessors
        )
        by_latency = 2 * flying / LATENCY / card.bytes_a_second  # as much is written as is read
        issued = card.multiprocessors * 4 * 32 * card.hertz / code.instructions_an_element
        found[name] = min(1.0, by_latency, issued * 2 * item / card.bytes_a_second)
    return found


def measure() -> tuple[str, list[Code]]:
    """Nvcc's release, and the code of every neuron's hot kernels.

    Raises:
        RuntimeError: without nvcc or nvdisasm, or if nvcc refuses a kernel.
    """
    compiler, disassembler = resources.nvcc(), nvdisasm()
    if compiler is None or disassembler is None:
        raise RuntimeError(
            "nvcc and nvdisasm are needed: put them on PATH, or set CUDA_HOME and pip install nvidia-cuda-nvdisasm"
        )
    with tempfile.TemporaryDirectory() as made:
        found = [codes(compiler, disassembler, stem, Path(made)) for stem in neurons.stems()]
    return release(compiler), [code for of_neuron in found for code in of_neuron]


def table(found: list[Code]) -> str:
    header = [*(name.replace("_", " ") for name in Code._fields), "blocks", *CARDS]
    lines = []
    for code in found:
        reached = shares(code) if code.kernel.startswith("forward") else {}
        percent = (f"{100 * reached[name]:.0f} %" if reached else "-" for name in CARDS)
        lines.append((*map(str, code), str(blocks(code)), *percent))
    return report.table(header, lines)


def worse(kept: dict[str, Any], found: list[Code]) -> list[str]:
    """In words, what got worse than what is kept."""
    before = {row["kernel"]: row for row in kept["kernels"]}
    complaints = [f"{name} is no more" for name in before.keys() - {code.kernel for code in found}]
    for code in found:
        for key, sign in WORSE.items():
            old, new = before.get(code.kernel, {}).get(key), getattr(code, key)
            if old is not None and sign * (new - old) > 0:
                complaints.append(f"{code.kernel}: {key.replace('_', ' ')} was {old}, is {new}")
    return complaints


def keep(compiler: str, found: list[Code]) -> None:
    rows = [code._asdict() for code in found]
    document = {"nvcc": compiler, "arch": ARCH, "kernels": rows}
    KEPT.write_text(json.dumps(document, indent=1) + "\n")
