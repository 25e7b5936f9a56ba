"""Recurrent LIF neurons, ``x [T, B, H]``, with about 10 % spikes, compared with adLIF and other libraries.

``plain_loop`` is what a user writes, step by step; ``tuned_loop`` is what an expert writes; ``compiled_loop`` is the
plain loop with its step under torch.compile. Gradients are those of ``x`` and the weights. ``own_neuron`` is the
adaptive neuron of examples/own_neurons.py, compiled from its step function, with parameters that are learned, one value
a neuron; ``own_loop`` is the same step in the tuned loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import neurons, own_neuron, report
from benchmarks.timing import Prepared, Task

SHAPES = ((200, 64, 128), (200, 8, 64), (100, 8, 128))
QUICK_SHAPES = ((3, 2, 5),)
FLOOR = "clone"
DELAYS = {"delays": 10, "long_delays": 300}  # longest delay, in steps
ADAPTIVE = ("own_neuron", "own_loop")
BASELINES = ("lif", "adlif", *DELAYS, "plain_loop", "tuned_loop", *ADAPTIVE, "snntorch", "norse")
FORWARD, TRAINING = "forward", "forward+backward"
# Smallest time of each relative to snnfast, forward and backward, by shape.
LIMITS = {(SHAPES[0], "plain_loop"): 8.0, (SHAPES[0], "compiled_loop"): 6.0, (SHAPES[1], "plain_loop"): 12.0}
ADLIF = 1.5  # largest time of adLIF relative to LIF
OWN_LOOP = 6.0  # smallest time of the loop relative to the compiled own neuron
# Ranges of the parameters of the own neuron.
LEARNED = {"alpha": (0.82, 0.96), "beta": (0.97, 0.99), "a": (0.0, 1.0), "b": (0.0, 2.0)}

Run = Callable[[Tensor, Tensor], Tensor]


def inputs(task: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Return currents with which about a tenth of the neurons fire, weights, and a gradient of the spikes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(task.shape, generator=generator) * 1.6 - 0.1
    H = task.shape[-1]
    weight = (torch.rand(H, H, generator=generator) - 0.5) / 3
    wide = torch.float64 if task.dtype == "float64" else torch.float32
    grad = torch.rand(task.shape, generator=generator) - 0.5
    device, dtype = task.device, task.torch_dtype
    return x.to(device, dtype), weight.to(device, wide), grad.to(device, dtype)


def ours(neuron: str, weight: Tensor, delays: int) -> Run:
    import snnfast

    generator = torch.Generator().manual_seed(1)
    d = (torch.rand(len(weight), generator=generator) * delays).to(weight) if delays else None
    options: dict[str, Any] = {"return_state": False}
    if neuron == "adlif":
        # form and centres of the ranges of Baronig et al. 2025
        options |= {"decay": 0.93, "decay_w": 0.99, "a": 0.5, "b": 1.0, "v_threshold": 0.1}

    def run(x: Tensor, w: Tensor) -> Tensor:
        spikes: Tensor = snnfast.ops.recurrent(x, w, neuron=neuron, delay=d, **options)[0]
        return spikes

    return run


def adaptive(loop: bool, weight: Tensor) -> Run:
    op, generator = own_neuron.example("adaptive"), torch.Generator().manual_seed(1)
    parameters = {
        k: (low + (high - low) * torch.rand(len(weight), generator=generator)).to(weight).requires_grad_()
        for k, (low, high) in LEARNED.items()
    }
    parameters["v_threshold"] = torch.full_like(weight[0], 0.08)
    run = neurons.baseline("tuned_loop").own_recurrent(op) if loop else lambda *args, **p: op.recurrent(*args, **p)[0]
    return lambda x, w: run(x, w, **parameters)  # type: ignore[no-any-return]


def implementation(name: str, weight: Tensor) -> Run:
    if name in ADAPTIVE:
        return adaptive(name == "own_loop", weight)
    if name in (neurons.OURS, "adlif", *DELAYS):
        return ours("adlif" if name == "adlif" else "lif", weight, DELAYS.get(name, 0))
    if name == "lif":
        import snnfast

        return lambda x, w: snnfast.ops.lif(x, return_state=False)[0]
    run: Run = neurons.baseline(name).recurrent(weight)
    return run


def prepare(task: Task) -> Prepared:
    x, weight, grad = inputs(task)
    if task.implementation == FLOOR:
        return Prepared({FLOOR: x.clone}, {})
    run = implementation(task.implementation, weight)
    leaves = (x.clone().requires_grad_(), weight.clone().requires_grad_())

    def forward() -> Tensor:
        with torch.no_grad():
            return run(x, weight)

    def training() -> None:
        for leaf in leaves:
            leaf.grad = None
        run(*leaves).backward(grad)

    training()
    facts = {"rate": forward().double().mean().item()}
    return Prepared({FORWARD: forward, TRAINING: training}, facts)


def is_judged(row: report.Row, implementation: str) -> bool:
    return (row.task.implementation, row.name, row.task.threads) == (implementation, TRAINING, 1)


def verdicts(found: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limits, for one thread."""
    judged = []
    own_times = {row.task.shape: row.minimum_seconds for row in found if is_judged(row, "own_neuron")}
    for row in found:
        name, shape = row.task.implementation, row.task.shape
        if not is_judged(row, name) or row.per_ours is None:
            continue
        if (shape, name) in LIMITS:
            ratio = f"{name} / snnfast"
            judged.append(report.verdict(shape, TRAINING, ratio, row.per_ours, ">=", LIMITS[shape, name]))
        if name == "adlif" and shape in SHAPES:
            judged.append(report.verdict(shape, TRAINING, "adlif / lif", row.per_ours, "<=", ADLIF))
        if name == "own_loop" and shape in SHAPES and shape in own_times:
            times = row.minimum_seconds / own_times[shape]
            judged.append(report.verdict(shape, TRAINING, "own_loop / own_neuron", times, ">=", OWN_LOOP))
    return judged
