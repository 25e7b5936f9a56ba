"""Cost of the hot kernels by their machine code (``results/machine-code.json``), and the bounds that follow for a GPU.

:func:`seconds` is a bound by arithmetic, not a prediction and no measurement: a kernel takes at least the time in which
the card's memory moves its bytes, in which its schedulers issue its instructions, one a cycle, and in which one warp
issues its own, each of which waits for the results that it needs, or for its loads.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import compact

KEPT = Path(__file__).parent / "results/machine-code.json"
ITEM = {"float32": 4, "bfloat16": 2}
LATENCY = 7e-7  # seconds until a load from memory is there, under load
THREADS = 128  # of a block: a warp for each of a multiprocessor's four schedulers
NARROW = 64  # of a block whose threads have one neuron each
# A launch takes threads of several neurons, or of pairs of 16 bits, where so many steps have so many bytes (launch.h).
FILL, STEPS = 1 << 21, {"several": 4, "pairs": 32}
SEGMENT = 16  # steps between two checkpoints
SHAPES = ((16, 1 << 22), (100, 1 << 17), (500, 1 << 13), (32, 1 << 15))
GOALS = {"float32": 0.8, "bfloat16": 0.6}  # shares of an H100's bandwidth, at the first two shapes


class Card(NamedTuple):
    bytes_a_second: float
    multiprocessors: int
    hertz: float
    shared_bytes: int  # of a multiprocessor


# Bandwidth as NVIDIA states it, and the clock under load.
CARDS = {
    "A100": Card(2.04e12, 108, 1.41e9, 164 << 10),
    "H100": Card(3.35e12, 132, 1.75e9, 228 << 10),
    "H200": Card(4.80e12, 132, 1.75e9, 228 << 10),
    "B200": Card(8.00e12, 148, 1.85e9, 228 << 10),
}


class Code(NamedTuple):
    """One kernel: its name, its resources, and the loops in which it spends its time.

    Attributes:
        registers: of a thread.
        spill_bytes: of a thread.
        shared_bytes: of a block.
        loads_in_flight: before one is waited for, at most.
        waits: for loads, in a group of steps: all loads by those in flight.
        load_bytes: of the narrowest load of a loop.
        store_bytes: of the narrowest store of a loop.
        bytes_an_element: that are read and written; optional tensors and checkpoints not counted.
        instructions_an_element: as they stand.
        executed_an_element: of these, on the longest way.
        executed_once: by a thread before its first step.
        cycles_a_step: of a warp that has a scheduler for itself, at least: the stalls of the longest way.
    """

    kernel: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    loads_in_flight: int
    waits: float
    load_bytes: int
    store_bytes: int
    bytes_an_element: int
    instructions_an_element: float
    executed_an_element: float
    executed_once: int
    cycles_a_step: float

    @property
    def arguments(self) -> list[str]:
        return re.split(r",\s*", self.kernel.partition("<")[2].rstrip(">"))

    @property
    def neuron(self) -> str:
        """Its name; of one whose parameters are tensors with that."""
        return self.arguments[0].lower() + ("" if self.arguments[5] == "true" else ", tensors")

    @property
    def direction(self) -> str:
        return self.kernel.partition("_")[0]

    @property
    def dtype(self) -> str:
        return "bfloat16" if self.arguments[2] == "BFloat16" else "float32"

    @property
    def lanes(self) -> int:
        """Neurons of a thread."""
        return int(self.arguments[4])

    @property
    def narrow(self) -> bool:
        """Whether its threads copy their rows into shared memory: of one neuron, or of a pair of 16 bits."""
        return self.arguments[6] == "true"

    @property
    def threads(self) -> int:
        """Of a block."""
        return NARROW if self.narrow else THREADS


FALLING = {"loads_in_flight", "load_bytes", "store_bytes"}  # worse where they are less
JUDGED = tuple(name for name in Code._fields if name != "kernel")


def kept() -> list[Code]:
    return [Code(**row) for row in json.loads(KEPT.read_text())["kernels"]]


def keep(compiler: str, arch: str, found: Iterable[Code]) -> None:
    document = {"nvcc": compiler, "arch": arch, "kernels": [code._asdict() for code in found]}
    compact.write(KEPT, document)


def worse(before: dict[str, Any], found: list[Code]) -> list[str]:
    """In words, what got worse than what is kept."""
    rows = {row["kernel"]: row for row in before["kernels"]}
    complaints = [f"{name} is no more" for name in rows.keys() - {code.kernel for code in found}]
    for code in found:
        for key in JUDGED:
            old, new = rows.get(code.kernel, {}).get(key), getattr(code, key)
            if old is not None and (new < old if key in FALLING else new > old):
                complaints.append(f"{code.kernel}: {key.replace('_', ' ')} was {old}, is {new}")
    return complaints


def blocks(code: Code, card: Card = CARDS["H100"]) -> int:
    """How many a multiprocessor holds at a time."""
    by_registers = 65536 // (code.threads * -(-code.registers // 8) * 8)
    by_shared = card.shared_bytes // (code.shared_bytes + 1024)
    return min(by_registers, by_shared, 2048 // code.threads)


def seconds(code: Code, steps: int, neurons: int, card: Card) -> float:
    """The least time of a launch."""
    all_blocks = math.ceil(neurons / (code.threads * code.lanes))
    resident = min(blocks(code, card), math.ceil(all_blocks / card.multiprocessors))
    waves = max(1.0, all_blocks / (resident * card.multiprocessors))
    together = math.ceil(resident * code.threads / THREADS)  # warps of a scheduler
    group = SEGMENT if code.narrow else 4  # steps whose loads are in flight together
    issued = group * code.lanes * code.executed_an_element
    stalled = (
        group * code.cycles_a_step
    )  # more than its instructions, where one needs the last one's result
    waited = code.waits * LATENCY * card.hertz
    # Of few neurons the next groups come meanwhile, and only the first is waited for.
    alone, first = (
        (max(stalled, waited), LATENCY * card.hertz) if code.narrow else (stalled + waited, 0)
    )
    cycles = together * code.executed_once + steps / group * max(together * issued, alone)
    return max((waves * cycles + first) / card.hertz, memory_seconds(code, steps, neurons, card))


def memory_seconds(code: Code, steps: int, neurons: int, card: Card) -> float:
    """In which the card moves the bytes of a launch."""
    return code.bytes_an_element * steps * neurons / card.bytes_a_second


def share(code: Code, steps: int, neurons: int, card: Card) -> float:
    """Of the card's bandwidth, at most."""
    return memory_seconds(code, steps, neurons, card) / seconds(code, steps, neurons, card)


def taken(
    codes: Iterable[Code], neuron: str, direction: str, dtype: str, neurons: int
) -> Code | None:
    """The kernel that a launch over so many neurons takes; None if it is not among ``codes``."""
    of = (neuron, direction, dtype)
    ways = {
        "one" if code.lanes == 1 else "pairs" if code.narrow else "several": code
        for code in codes
        if (code.neuron, code.direction, code.dtype) == of
    }
    for way, steps in STEPS.items():
        if way in ways and neurons * ITEM[dtype] * steps >= FILL:
            return ways[way]
    return ways.get("one")


def least(
    codes: Sequence[Code], neuron: str, name: str, dtype: str, shape: Sequence[int], card: Card
) -> float | None:
    """The least seconds of a pass, which may be ``forward+backward``; None if its kernels are not among ``codes``."""
    steps, count = shape[0], math.prod(shape[1:])
    found = [taken(codes, neuron, direction, dtype, count) for direction in name.split("+")]
    known = [code for code in found if code is not None]
    if len(known) < len(found):
        return None
    return sum(seconds(code, steps, count, card) for code in known)


# ---- tables


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def power(neurons: int) -> str:
    return f"2^{neurons.bit_length() - 1}"


def budget(codes: Iterable[Code], *neurons: str) -> Iterator[list[str]]:
    """Names of columns, then a line for each kernel of these neurons, of all if none is named."""
    words = (name.replace("_", " ") for name in JUDGED)
    yield ["neuron", "pass", "dtype", "neurons a thread", *words, "blocks"]
    for code in sorted(codes, key=lambda code: code.neuron):
        if not neurons or code.neuron in neurons:
            of = (code.neuron, code.direction, code.dtype, code.lanes)
            yield [*map(str, (*of, *code[1:], blocks(code)))]


def cases(codes: Sequence[Code]) -> list[tuple[str, str, str]]:
    names = sorted({code.neuron for code in codes})
    return [(n, d, t) for n in names for d in ("forward", "backward") for t in ITEM]


def by_shape(codes: Sequence[Code], card: str = "H100") -> Iterator[list[str]]:
    """The share of one card's bandwidth that each neuron reaches at most, for each shape."""
    yield ["neuron", "pass", "dtype", *(f"[{steps}, {power(n)}]" for steps, n in SHAPES)]
    for case in cases(codes):
        found = [(taken(codes, *case, n), steps, n) for steps, n in SHAPES]
        yield [*case, *(percent(share(c, s, n, CARDS[card])) if c else "-" for c, s, n in found)]


def by_card(codes: Sequence[Code]) -> Iterator[list[str]]:
    """The share of each card's bandwidth that each neuron reaches at most, at the first shape."""
    steps, neurons = SHAPES[0]
    yield ["neuron", "pass", "dtype", *CARDS]
    for case in cases(codes):
        code = taken(codes, *case, neurons)
        if code is not None:
            reached = [share(code, steps, neurons, card) for card in CARDS.values()]
            yield [*case, *map(percent, reached)]


def misses(codes: Sequence[Code]) -> Iterator[list[str]]:
    """Which of the neurons, at the first two shapes, do not reach the goal of an H100's bandwidth."""
    yield ["neuron", "pass", "dtype", "shape", "at most", "goal"]
    for case in cases(codes):
        for steps, neurons in SHAPES[:2]:
            code, goal = taken(codes, *case, neurons), GOALS[case[2]]
            if code is not None and (at := share(code, steps, neurons, CARDS["H100"])) < goal:
                yield [*case, f"[{steps}, {power(neurons)}]", percent(at), percent(goal)]
