"""Neurons of examples/own_neurons.py, compiled from their step functions, ``x [T, B, N]``, forward and backward.

``plain_loop`` is the same step function in a loop over ``x[t]``, as a user writes it; ``tuned_loop`` unbinds ``x``, as
an expert does; ``compiled_loop`` is the tuned loop under torch.compile; ``spikingjelly`` is its FlexSN; ``jax`` is a
``jax.lax.scan`` compiled by XLA. A pass is a neuron; ``lif``, with one state, is for comparison. Facts are spikes per
step, and CPU seconds of compilations, including child processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks import lif, neurons, report
from benchmarks.timing import Prepared, Task

SHAPES = ((64, 32, 1024),)
QUICK_SHAPES = ((3, 2, 5),)
FLOOR = "clone"
BASELINES = ("lif", "plain_loop", "tuned_loop", "spikingjelly", "jax")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# Neurons, and the factor on the input with which they fire.
DRIVE = {"klif": 1.0, "two_compartments": 0.5, "resonator": 30.0}
SLOWER = {"plain_loop": 12.0, "tuned_loop": 12.0, "jax": 3.0}  # smallest time of each relative to snnfast
PER_STATE = 1.25  # largest time per state relative to LIF
FIRST_CALL, CACHED = 3.0, 0.1  # most CPU seconds of the first call

Run = Callable[[Tensor], Tensor]

FIRST = """
import torch
from benchmarks.own_neuron import cpu_seconds, example
op, x = example({neuron!r}), torch.rand(3, 2, requires_grad=True)
begin = cpu_seconds()
op(x)
print(cpu_seconds() - begin)
"""


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its finished children."""
    return time.process_time() + sum(os.times()[2:4])


def first_calls(neuron: str) -> dict[str, float]:
    """Measure CPU seconds of the first call in a new process, with an empty cache and with a cached kernel."""
    command = [sys.executable, "-c", FIRST.format(neuron=neuron)]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SNNFAST_CACHE_DIR": folder}
        for when in ("first call", "cached"):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found[f"s {neuron}, {when}"] = float(done.stdout)
    return found


def example(neuron: str) -> Any:
    """Return the neuron of that name in examples/own_neurons.py."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    import own_neurons

    return getattr(own_neurons, neuron)


def implementation(name: str, neuron: str) -> Run:
    op = example(neuron)
    if name == neurons.OURS:
        return lambda x: op(x, return_state=False)[0]  # type: ignore[no-any-return]
    run: Run = neurons.baseline(name).own_neuron(op)
    return run


def prepare(task: Task) -> Prepared:
    x, grad = lif.inputs(task)
    if task.implementation == FLOOR:
        return Prepared({FLOOR: x.clone}, {})
    if task.implementation == "lif":
        alone = lif.passes(neurons.lif(neurons.OURS), x, grad)
        return Prepared({"lif": alone.passes[lif.TRAINING]}, alone.facts)
    timed: dict[str, Callable[[], object]] = {}
    facts: dict[str, float] = {}
    for neuron, drive in DRIVE.items():
        if task.implementation == neurons.OURS and task.shape in SHAPES and task.device == "cpu":
            facts |= first_calls(neuron)
        begin = cpu_seconds()
        if task.implementation == "jax":
            prepared = neurons.baseline("jax").passes(neuron, drive * x, grad)
        else:
            prepared = lif.passes(implementation(task.implementation, neuron), drive * x, grad)
        timed[neuron] = prepared.passes[lif.TRAINING]
        timed[neuron]()
        if task.implementation in ("jax", "compiled_loop"):
            facts[f"s {neuron}, compiled"] = cpu_seconds() - begin
        facts[f"spikes a step, {neuron}"] = prepared.facts["spikes a step"]
    return Prepared(timed, facts)


def verdicts(found: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limits, for one thread."""
    rows = {
        (row.task.implementation, row.name): row
        for row in found
        if row.task.threads == 1 and row.task.shape == SHAPES[0]
    }
    judged = []

    def judge(neuron: str, ratio: str, value: float | None, sign: str, limit: float) -> None:
        judged.append(report.verdict(SHAPES[0], neuron, ratio, value, sign, limit))

    for neuron in DRIVE:
        ours, lif_row = rows.get((neurons.OURS, neuron)), rows.get(("lif", "lif"))
        if ours is None:
            continue
        for other, limit in SLOWER.items():
            row = rows.get((other, neuron))
            judge(neuron, f"{other} / snnfast", row.per_ours if row else None, ">=", limit)
        states = len(example(neuron).states)
        per_state = ours.minimum_seconds / states / lif_row.minimum_seconds if lif_row else None
        judge(neuron, "a state / lif", per_state, "<=", PER_STATE)
        for when, limit in (("first call", FIRST_CALL), ("cached", CACHED)):
            judge(neuron, f"{when}, s", ours.facts.get(f"s {neuron}, {when}"), "<=", limit)
    return judged
