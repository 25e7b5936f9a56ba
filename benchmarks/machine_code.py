"""The machine code of the hot kernels: every neuron, forward and backward, fp32 and bf16.

Parameters are numbers; of LIF there are kernels for tensors, too. The surrogate is the default, which has kernels of
its own. Of each kernel, and of the loops in which it spends
its time (two in the backward pass), :class:`benchmarks.budget.Code` lists what is counted. ``machine-code.json`` keeps
it; a kernel may get better, not worse. Then the share of a GPU's bandwidth that follows, by arithmetic.

Needs nvcc and nvdisasm (a CUDA toolkit, or ``pip install nvidia-cuda-nvdisasm``), and no GPU. Scoreboards and stalls
are read from the control bits of instructions of sm_70 to sm_90: bits 105 to 125 of 128 are stall, yield, write and
read barrier and wait mask. The stall is the number of cycles until the warp may issue its next instruction, which has
the result of this one in time; what takes a scoreboard (memory, special functions) comes on top of it.
"""

from __future__ import annotations

import re
import shutil
import site
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks import budget, neurons, resources
from benchmarks.budget import Code
from snnfast.compiler.neurons import write

ARCH = "sm_90"
WAIT = re.compile(r"DEPBAR\.LE SB0, (0x\w+)")  # for all but so many groups of copies
ELEMENTS = ("float", "BFloat16")
PASSES = {"forward": "", "backward": ", Surrogate::atan"}  # and more template arguments
# Only these kernels, each with several neurons a thread and with one.
SOURCE = """#include "core/{stem}.h"

#include "cuda/neuron_launch.cuh"

namespace snnfast {{
int hot(const NeuronForward<{neuron}>& f, const NeuronBackward<{neuron}>& b, cudaStream_t s) {{
  return {calls};
}}
}}  // namespace snnfast
"""


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
    numbers = ("true", "false") if stem == "lif" else ("true",)
    calls = [
        f"launch_{name}<{neuron}, float, {element}, Reset::hard, {known}{own}>({name[0]}, s)"
        for known in numbers
        for name, own in PASSES.items()
        for element in ELEMENTS
    ]
    source, cubin = folder / f"{stem}.cu", folder / f"{stem}.cubin"
    write(str(folder / "core"))
    source.write_text(SOURCE.format(stem=stem, neuron=neuron, calls=" + ".join(calls)))
    flags = [
        f"-arch={ARCH}",
        "-std=c++17",
        "-O3",
        "--fmad=false",
        f"-I{resources.CSRC}",
        f"-I{folder}",
    ]
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
    stall: int = 1  # cycles until the warp may issue the next one


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
            found.append(
                Instruction(
                    m[1].strip(), control >> 5 & 7, control >> 11 & 0x3F, max(control & 0xF, 1)
                )
            )
    return found, labels


class Loop(NamedTuple):
    """Instructions from the ``begin``-th to the ``end``-th, which jumps back."""

    begin: int
    end: int
    body: list[Instruction]

    @property
    def loads(self) -> list[Instruction]:
        return [each for each in self.body if is_load(each)]

    @property
    def saves(self) -> list[Instruction]:
        return [each for each in self.body if re.search(r"\bSTS\b", each.text)]

    @property
    def stores(self) -> list[Instruction]:
        return [each for each in self.body if re.search(r"\bSTG\b", each.text)]


def loops(found: list[Instruction], labels: dict[str, int]) -> list[Loop]:
    jumps = [
        (labels.get(m[1], end), end)
        for end, each in enumerate(found)
        if (m := re.search(r"BRA(?:\.\S+)?\s+.*`\((\.L_x_\d+)\)", each.text))
    ]
    return [Loop(begin, end, found[begin : end + 1]) for begin, end in jumps if end - begin > 3]


def hottest(found: list[Loop], storing: bool) -> Loop:
    """Of the innermost loops that load, and store or do not: the one of most steps, else of most loads in flight."""
    inner = [
        a for a in found if not any(a != b and a.begin <= b.begin and b.end <= a.end for b in found)
    ]
    wanted = [loop for loop in inner if loop.loads and bool(loop.stores) == storing]
    return max(wanted, key=lambda loop: (len(loop.loads), in_flight(loop.body), -len(loop.body)))


def way(
    found: list[Instruction],
    labels: dict[str, int],
    begin: int,
    end: int,
    best: Callable[[list[int]], int],
    cost: Callable[[Instruction], int] = lambda each: 1,
) -> int:
    """Instructions on the longest or shortest way from one to the other, or the sum of another cost.

    No way calls a function: those are divisions whose result no usual number is.
    """
    steps: dict[int, int] = {end: cost(found[end]) if end < len(found) else 1}
    for at in range(end - 1, begin - 1, -1):
        text = found[at].text
        conditional = text.startswith("@") or "BRA.DIV" in text
        after = [at + 1]
        if m := re.search(r"\bBRA\b.*?(\.L_x_\d+)", text):
            after = [labels[m[1]], *after] if conditional else [labels[m[1]]]
        elif re.search(r"\b(?:CALL|EXIT|RET)\b", text) and not conditional:
            after = []
        if known := [steps[next_] for next_ in after if at < next_ and next_ in steps]:
            steps[at] = cost(found[at]) + best(known)
    return steps.get(begin, 0)


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
    width = re.search(r"\b(?:LDG|STG|STS)\S*\.(128|64|U16|U8|S16)\b", each.text)
    return {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1}[width[1]] if width else 4


def code(
    name: str, parsed: tuple[list[Instruction], dict[str, int]], used: resources.Kernel
) -> Code:
    name = name.removeprefix("neuron_")
    if any("LDGSTS" in each.text for each in parsed[0]):
        return narrow_code(name, parsed, used)
    every = loops(*parsed)
    last = hottest(every, storing=True)
    # The backward pass has two: it computes the states of a segment anew, and then the gradients.
    hot = [hottest(every, storing=False), last] if name.startswith("backward") else [last]
    lanes, item = int(re.split(r",\s*", name)[4]), 2 if "BFloat16" in name else 4
    rows = len(hot[0].loads)  # of x, one a step
    # Every other loop stores one row a step; of its loads one is of an optional tensor, the gradient of membranes.
    streams = [1, len(last.loads) // len(last.stores) - 1, 1] if len(hot) == 2 else [1, 1]
    steps = [rows, len(last.stores) if len(hot) == 2 else rows]
    kept = [word(each) for each in hot[0].body if re.search(r"\bSTS\b", each.text)]

    def a_step(counts: Iterable[int]) -> float:
        return sum(n / s for n, s in zip(counts, steps))

    def an_element(counts: Iterable[int]) -> float:
        return round(a_step(counts) / lanes, 1)

    return Code(
        name,
        used.registers,
        used.spill_bytes,
        sum(kept) // rows * budget.THREADS * budget.SEGMENT,
        max(in_flight(loop.body) for loop in hot),
        round(sum(len(loop.loads) / in_flight(loop.body) for loop in hot), 2),
        min(word(each) for loop in hot for each in loop.loads),
        min(word(each) for loop in hot for each in loop.stores),
        item * sum(streams),
        an_element(len(loop.body) for loop in hot),
        an_element(way(*parsed, loop.begin, loop.end, max) for loop in hot),
        way(*parsed, 0, hot[0].begin, min),
        round(a_step(way(*parsed, loop.begin, loop.end, max, stall_of) for loop in hot), 1),
    )


def stall_of(each: Instruction) -> int:
    return each.stall


def is_wide_copy(each: Instruction) -> bool:
    """Whether it copies 16 bytes from global to shared memory."""
    return re.search(r"\bLDGSTS\S*\.128\b", each.text) is not None


def has_copies(loop: Loop) -> bool:
    return any("LDGSTS" in each.text for each in loop.body)


def narrow_code(
    name: str, parsed: tuple[list[Instruction], dict[str, int]], used: resources.Kernel
) -> Code:
    """Of a kernel with one neuron a thread, which copies tiles of the sequence into shared memory.

    It has a loop over tiles. In that are loops over the steps of a tile, two in the backward pass, and loops that begin
    copies, once each tile; and loops for steps that are left over and rows that cannot be copied 16 bytes at a time,
    which do not count.
    """
    lanes = int(re.split(r",\s*", name)[4])
    every = loops(*parsed)
    whole = [loop for loop in every if loop.stores and way(*parsed, loop.begin, loop.end, max)]
    waiting = [loop for loop in whole if any(WAIT.search(each.text) for each in loop.body)]
    tiles = min(waiting, key=lambda loop: len(loop.body))
    inner = [a for a in every if tiles.begin < a.begin and a.end < tiles.end]
    backward, item = name.startswith("backward"), 2 if "BFloat16" in name else 4
    last = max(inner, key=lambda loop: len(loop.stores))
    before = [loop for loop in inner if not loop.stores and not has_copies(loop)]
    kept = max(before, key=lambda loop: len(loop.saves), default=last) if backward else last
    copying = [loop for loop in inner if any(map(is_wide_copy, loop.body))]
    ways = sorted([last, *copying, *([kept] if backward else [])], key=lambda loop: loop.begin)

    def of_tile(cost: Callable[[Instruction], int]) -> int:
        total, at = 0, tiles.begin
        for loop in ways:
            before = way(*parsed, at, loop.begin, min, cost) - cost(parsed[0][loop.begin])
            total += before + way(*parsed, loop.begin, loop.end, max, cost)
            at = loop.end + 1
        return total + way(*parsed, at, tiles.end, min, cost)

    executed = of_tile(lambda each: 1)
    stand = len(tiles.body) - sum(len(loop.body) for loop in inner if loop not in ways)
    (behind,) = {int(m[1], 16) for each in tiles.body if (m := WAIT.search(each.text))}
    sequences = (
        2 if backward else 1
    )  # that are copied; each has tiles that are waited for later, and the present one
    a_step = sequences * (behind + 1) * item * lanes
    if backward:
        a_step += sum(word(each) for each in kept.saves) // budget.SEGMENT
    return Code(
        name,
        used.registers,
        used.spill_bytes,
        a_step * budget.NARROW * budget.SEGMENT,
        sequences * behind * budget.SEGMENT,
        round(1 / behind, 2),
        16 if copying else item * lanes,
        min(word(each) for each in last.stores),
        item * (sequences + 1),
        round(stand / (lanes * budget.SEGMENT), 1),
        round(executed / (lanes * budget.SEGMENT), 1),
        way(*parsed, 0, tiles.begin, min),
        round(of_tile(stall_of) / budget.SEGMENT, 1),
    )


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
