"""A step of one sample, ``inputs x hidden x outputs``: C code from ``export_c``, snnfast in PyTorch, and snnTorch.

All have the same weights and read the same frames, with 13 % spikes as from the pixels of MNIST. The C code runs in
this process; its time includes calls through ctypes. Needs a C compiler, ``cc``.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import neurons, report
from benchmarks.timing import Prepared, Task

SHAPES = ((784, 256, 10),)
QUICK_SHAPES = ((20, 8, 4),)
FLOOR = "pytorch"
BASELINES = ("snntorch",)
STEP = "step"
STEPS = 200
SPIKES = 0.13
BETA = 0.95
LIMIT = 10.0


def network(shape: tuple[int, ...]) -> nn.Sequential:
    import snnfast

    def neuron() -> nn.Module:
        layer = snnfast.nn.like("snntorch.Leaky", beta=BETA)
        layer.stateful = True
        return layer

    torch.manual_seed(0)
    inputs, hidden, outputs = shape
    first, second = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
    return nn.Sequential(first, neuron(), second, neuron())


def program(net: nn.Module, frames: Tensor) -> Callable[[], Tensor]:
    import snnfast

    with tempfile.TemporaryDirectory() as folder:
        snnfast.export_c(net, folder)
        options = ["-std=c99", "-O3", "-ffp-contract=off", "-shared", "-fPIC", "-o", "snn.so"]
        subprocess.run(["cc", *options, "snn.c"], cwd=folder, check=True)
        library = ctypes.CDLL(str(Path(folder) / "snn.so"))
    outputs = torch.empty(len(frames), net[2].out_features)
    step = library.snn_step
    step.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    pairs = [(x.data_ptr(), y.data_ptr()) for x, y in zip(frames, outputs)]

    def run() -> Tensor:
        library.snn_reset()
        for x, y in pairs:
            step(x, y)
        return outputs

    return run


def pytorch(net: nn.Module, frames: Tensor) -> Callable[[], Tensor]:
    from snnfast.nn import reset

    def run() -> Tensor:
        reset(net)
        with torch.inference_mode():
            return torch.stack([net(x.view(1, 1, -1))[0, 0] for x in frames])

    return run


def prepare(task: Task) -> Prepared:
    if (task.device, task.dtype, task.threads) != ("cpu", "float32", 1):
        raise neurons.Skip("the program is for one core of a CPU, in float32")
    net = network(task.shape)
    generator = torch.Generator().manual_seed(0)
    frames = (torch.rand(STEPS, task.shape[0], generator=generator) < SPIKES).float()
    if task.implementation == neurons.OURS:
        run = program(net, frames)
    elif task.implementation == FLOOR:
        run = pytorch(net, frames)
    else:
        run = neurons.baseline(task.implementation).steps(net, frames, BETA)
    return Prepared({STEP: run}, {"spikes out": run().sum().item()}, {STEP: STEPS})


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limit."""
    return [
        report.verdict(row.task.shape, STEP, "snntorch / snnfast", row.per_ours, ">=", LIMIT)
        for row in rows
        if row.task.implementation == "snntorch"
    ]
