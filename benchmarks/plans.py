"""Launch plans of learning networks on GPUs that need not be present: blocks, their synchronisation, shared memory.

The operators plan for each of :data:`CARDS` by emulation (``csrc/cuda_emulation/occupancy.h``), with registers and
shared memory per kernel as reported by nvcc. ``results/team-kernels.json`` stores that report; ``--keep`` compiles
anew.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import bp_stdp_network, compact, diehl_cook, diehl_cook_conductance, resources

STORED = Path(__file__).parent / "results/team-kernels.json"
SOURCES = ("diehl_cook", "diehl_cook_conductance", "bp_stdp_network")
KIB = 1024
TOGETHER = 400  # neurons: 128 larger networks do not fit into the memory of a GPU


class Card(NamedTuple):
    """A GPU with the fields of csrc/cuda_emulation/occupancy.h, and the architecture of its machine code."""

    multiprocessors: int
    warps: int  # per multiprocessor
    blocks: int
    shared: int
    block_shared: int
    clusters: int
    arch: str


# NVIDIA's CUDA C++ Programming Guide, technical specifications of compute capabilities 8.0, 9.0 and 8.9.
CARDS = {
    "A100": Card(108, 64, 32, 164 * KIB, 163 * KIB, 0, "sm_80"),
    "H100": Card(132, 64, 32, 228 * KIB, 227 * KIB, 1, "sm_90"),
    "L4": Card(58, 48, 24, 100 * KIB, 99 * KIB, 0, "sm_80"),
    "RTX 4090": Card(128, 48, 24, 100 * KIB, 99 * KIB, 0, "sm_80"),
}


class Launch(NamedTuple):
    """A launch.

    Attributes:
        way: synchronisation of blocks: ``blocks`` for none, ``grid`` for a cooperative launch, or ``cluster``.
        meeting: blocks of a team, which synchronise.
        teams: concurrent teams.
        threads: threads per block.
        shared: bytes of dynamic shared memory per block.
    """

    way: str
    meeting: int
    teams: int
    threads: int
    shared: int


def measure() -> dict[str, Any]:
    """Return nvcc's report: registers per thread and bytes of static shared memory, by architecture and kernel.

    Raises:
        RuntimeError: without nvcc, or if it refuses a source.
    """
    compiler = resources.nvcc()
    if compiler is None:
        raise RuntimeError("nvcc was not found: put it on PATH or set CUDA_HOME")
    found: dict[str, Any] = {}
    for arch in sorted({card.arch for card in CARDS.values()}):
        for source in SOURCES:
            path = resources.CSRC / f"cuda/{source}.cu"
            kernels = resources.compile_kernels(compiler, arch, path)
            found.setdefault(arch, {}).update({k.name: [k.registers, k.shared_bytes] for k in kernels})
    return found


def keep(found: dict[str, Any]) -> None:
    compact.write(STORED, {arch: dict(sorted(kernels.items())) for arch, kernels in found.items()})


@functools.cache
def kernel_addresses() -> dict[str, int]:
    """Return the addresses of the emulated kernels in their library, by name."""
    import snnfast

    (library,) = Path(snnfast.__file__).parent.glob("_cuda_emulation*")
    listed = subprocess.run(["nm", str(library)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in listed.stdout.splitlines() if "_kernel" in line]
    rows = [row for row in rows if len(row) == 3 and row[1] in "tTwW"]
    return dict(zip(resources.demangle([row[2] for row in rows]), [int(row[0], 16) for row in rows]))


@contextmanager
def planned_for(card: Card) -> Iterator[Callable[[], list[Launch]]]:
    """Plan and record emulated launches for a card, inside, without running them; yield a function that reads them."""
    from snnfast import backend, testing

    if not testing.load_cuda_emulation():
        raise RuntimeError("the emulated CUDA is not built: pip install -e . builds it")
    kernels = json.loads(STORED.read_text())[card.arch]
    with tempfile.TemporaryDirectory() as folder:
        device, trace = Path(folder) / "device", Path(folder) / "trace"
        lines = [" ".join(map(str, card[:-1]))]
        lines += [
            f"{kernel_addresses()[name]} {r} {s}" for name, (r, s) in kernels.items() if name in kernel_addresses()
        ]
        device.write_text("\n".join(lines) + "\n")
        variables = {"SNNFAST_EMULATION_DEVICE": str(device), "SNNFAST_EMULATION_TRACE": str(trace)}
        before = {name: os.environ.get(name) for name in variables}
        os.environ |= variables
        try:
            with backend.use("cuda_emulation"):
                yield lambda: [launch(line) for line in trace.read_text().splitlines()]
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def launch(line: str) -> Launch:
    way, *numbers = line.split()
    meeting, x, y, z, threads, shared = map(int, numbers)
    return Launch(way, meeting, x * y * z // meeting, threads, shared)


def plan(card: Card, call: Callable[[], object]) -> Launch:
    """Return the last launch of an operator; earlier ones arrange its arguments."""
    with planned_for(card) as noted:
        call()
        return noted()[-1]


def cases() -> dict[str, Callable[[], object]]:
    """Return the launches of the benchmarks: learning by one network or by 128, and 128 images without learning."""
    found: dict[str, Callable[[], object]] = {}
    for module, frozen in (
        (diehl_cook, {"rule": None, "theta_plus": 0.0, "norm": None}),
        (diehl_cook_conductance, {"rule": None, "theta_plus": 0.0, "tau_theta": None, "norm": None}),
    ):
        stem = module.__name__.rpartition(".")[2]
        for steps, inputs, outputs in module.SHAPES:
            name = f"{stem} {inputs}x{outputs}"
            learn = functools.partial(present, module, steps, inputs, outputs)
            found[name] = learn
            if module is diehl_cook and outputs <= TOGETHER:
                found[f"{name}, 128 networks"] = functools.partial(learn, networks=128)
            found[f"{name}, without learning"] = functools.partial(learn, images=128, **frozen)
    for steps, batch, *sizes in bp_stdp_network.SHAPES:
        name = f"bp_stdp_network {'-'.join(map(str, sizes))}, batch {batch}"
        layers = functools.partial(learn_layers, steps, batch, sizes)
        found[name] = layers
        found[f"{name}, 128 networks"] = functools.partial(layers, networks=128)
    return found


def present(
    module: Any, steps: int, inputs: int, outputs: int, images: int = 2, networks: int = 0, **changes: object
) -> None:
    many = (networks,) if networks else ()
    kind = torch.float32 if module is diehl_cook else torch.float64
    w, theta = torch.zeros(*many, inputs, outputs).mT, torch.zeros(*many, outputs, dtype=kind)
    hz = torch.zeros(images, inputs)
    module.learn(diehl_cook.Network(w, theta, hz), diehl_cook.rates(hz, 0, steps), **changes)


def learn_layers(steps: int, batch: int, sizes: Sequence[int], networks: int = 0) -> None:
    from snnfast import ops

    many = (networks,) if networks else ()
    weights = [torch.zeros(*many, o, i) for i, o in itertools.pairwise(sizes)]
    x = torch.zeros(steps, 2 * batch, sizes[0], dtype=torch.uint8)
    labels = torch.zeros(2 * batch, dtype=torch.int64)
    desired = torch.zeros(steps, 2 * batch, dtype=torch.bool)
    update = "step" if batch == 1 else "sequence"
    ops.bp_stdp_network_(
        weights,
        x,
        labels,
        desired,
        thresholds=[0.9] * len(weights),
        epsilon=bp_stdp_network.EPSILON,
        update=update,
        batch=batch,
        validate=False,
    )


def table() -> Iterator[list[str]]:
    """Yield the header, then a row per case: ``teams x blocks x threads`` and KiB of shared memory, by card."""
    yield ["launch", *CARDS]
    for name, call in cases().items():
        yield [name, *(words(plan(card, call)) for card in CARDS.values())]


def words(found: Launch) -> str:
    way = {"blocks": "", "grid": f"grid of {found.meeting}, ", "cluster": f"cluster of {found.meeting}, "}
    return f"{found.teams} × {way[found.way]}{found.threads} threads, {found.shared / KIB:.0f} KiB"
