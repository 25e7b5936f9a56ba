"""All spike times of a layer, ``B x inputs x spikes of an input x neurons``, and the gradient of weights and inputs.

60 ms of LIF neurons with time constants of 20 and 5 ms. ``steps_of_1_ms`` is the same layer in 60 steps with surrogate
gradients, ``ops.cuba`` of a product of all steps; ``steps_of_0.1_ms`` takes 600. ``reference_loop`` is
``snnfast.reference``, exact events in plain PyTorch, for all samples together. Facts: spikes per neuron, and KB per
sample saved for the backward pass.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from benchmarks import neurons, report
from benchmarks.timing import Prepared, Task

SHAPES = ((64, 100, 4, 100), (64, 700, 4, 200))
QUICK_SHAPES = ((2, 5, 2, 3),)
FLOOR = "steps_of_1_ms"
STEPS = {FLOOR: 1.0, "steps_of_0.1_ms": 0.1}
BASELINES = ("steps_of_0.1_ms", "reference_loop")
FORWARD, TRAINING = "forward", "forward+backward"
TAU_MEM, TAU_SYN, T_MAX, MAX_SPIKES = 20.0, 5.0, 60.0, 16
SLOWER, SAVED = 8.0, 0.5  # least time of plain PyTorch relative to snnfast; most memory relative to steps of 1 ms


def spikes_in_steps(t_in: Tensor, dt: float, t_max: float = T_MAX) -> Tensor:
    """Return spike counts ``[T, B, I]`` for times ``[B, I, S]``."""
    steps = round(t_max / dt)
    counts = torch.zeros(steps + 1, *t_in.shape[:2], dtype=t_in.dtype)
    step = (t_in.nan_to_num(posinf=t_max) / dt).long().clamp(max=steps)
    counts.scatter_add_(0, step.movedim(2, 0), torch.ones_like(t_in.movedim(2, 0)))
    return counts[:-1]


def saved_by(run: Any) -> int:
    """Return the bytes of the tensors that a call saves for its backward pass; shared memory counts once."""
    storages: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return x

    with saved_tensors_hooks(note, lambda x: x):
        run()
    return sum(storages.values())


def prepare(task: Task) -> Prepared:
    from snnfast import ops, reference

    batch, inputs, count, outputs = task.shape
    torch.manual_seed(0)
    t_in = (torch.rand(batch, inputs, count) * 40).to(task.torch_dtype).requires_grad_()
    w = ((torch.rand(outputs, inputs) - 0.3) * 30 / (inputs * math.sqrt(count))).to(task.torch_dtype)
    w.requires_grad_()
    name = task.implementation
    if name in STEPS:
        dt = STEPS[name]
        # In steps the times have no gradient; the counts have one, as between two layers.
        x = spikes_in_steps(t_in.detach(), dt).requires_grad_()
        leaves = [x, w]
        decays = {"decay": math.exp(-dt / TAU_MEM), "decay_syn": math.exp(-dt / TAU_SYN)}

        def run() -> Tensor:
            gain = 1 - math.exp(-dt / TAU_MEM)
            return ops.cuba(torch.nn.functional.linear(x, gain * w), decay_input=False, **decays)[0]

        def spikes(s: Tensor) -> Tensor:
            return s
    else:
        ops_by_name = {neurons.OURS: ops.eventprop, "reference_loop": reference.eventprop}
        if name not in ops_by_name:
            raise neurons.Skip(f"choose from {neurons.OURS}, {FLOOR}, {', '.join(BASELINES)}")
        leaves = [t_in, w]

        def run() -> Tensor:
            constants = {"tau_mem": TAU_MEM, "tau_syn": TAU_SYN, "t_max": T_MAX}
            return ops_by_name[name](t_in, w, max_spikes=MAX_SPIKES, **constants)  # type: ignore[no-any-return]

        def spikes(t: Tensor) -> Tensor:
            return t.isfinite().to(t.dtype)

    def forward() -> Tensor:
        with torch.no_grad():
            return run()

    def training() -> tuple[Tensor, ...]:
        return torch.autograd.grad(run().nan_to_num(posinf=0.0).sum(), leaves)

    fired = spikes(forward()).sum().item() / (batch * outputs)
    facts = {"spikes": fired, "KB saved": saved_by(run) / 1024 / batch}
    passes = {FORWARD: forward, TRAINING: training}
    return Prepared(passes, facts, dict.fromkeys(passes, batch))


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Return whether single-threaded time and saved memory meet the promised ratios."""
    found, saved = [], {}
    for row in rows:
        task = row.task
        saved[task.shape, task.implementation] = row.facts["KB saved"]
        if task.threads != 1 or task.shape not in SHAPES or row.name != TRAINING:
            continue
        if task.implementation == "reference_loop":
            ratio_name = "reference_loop / snnfast"
            found.append(report.verdict(task.shape, row.name, ratio_name, row.per_ours, ">=", SLOWER))
    for shape in {task_shape for task_shape, _ in saved if task_shape in SHAPES}:
        if all((shape, name) in saved for name in (neurons.OURS, FLOOR)):
            ratio = saved[shape, neurons.OURS] / saved[shape, FLOOR]
            ratio_name = "saved / steps of 1 ms"
            found.append(report.verdict(shape, TRAINING, ratio_name, ratio, "<=", SAVED))
    return found
