"""A linear layer of spikes and LIF neurons, ``rows x inputs x outputs``: a training step, by the share of spikes.

``products`` is PyTorch's time for the three dense products of such a step, in the same process; ``linear`` is the step
with ``nn.Linear``. Without the gradient of the input, as in the first layer of a network, a step needs two products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from benchmarks import neurons
from benchmarks.report import Row, verdict
from benchmarks.timing import Prepared, Task

SHAPES = ((1600, 1024, 1024),)
QUICK_SHAPES = ((50, 70, 20),)
FLOOR = "products"
BASELINES = ("linear",)
PARTS = (0.02, 0.05, 0.1, 0.2, 0.3)
STEPS = 25
FIXED = ", input fixed"
# Share of spikes, whether the input needs a gradient, and the largest time of a step relative to the three products.
LIMITS = ((0.05, True, 0.5), (0.05, False, 0.15))
NEVER_SLOWER = 0.2  # share of spikes at which the step must not be slower than with nn.Linear


def step_name(part: float, *, fixed: bool, dense: bool = False) -> str:
    return f"{'linear ' if dense else ''}{100 * part:g} %{FIXED if fixed else ''}"


def prepare(task: Task) -> Prepared:
    import snnfast

    rows, inputs, outputs = task.shape
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.to(task.device, task.torch_dtype)

    weight = drawn(outputs, inputs).div_(inputs**0.5).requires_grad_()
    bias, grad = drawn(outputs).requires_grad_(), drawn(rows, outputs)
    noise = torch.rand(rows, inputs, generator=generator)
    spikes = {p: (noise < p).to(task.device, task.torch_dtype) for p in PARTS}

    def step(linear: Callable[..., Tensor], x: Tensor, fixed: bool) -> tuple[Any, ...]:
        x = x.detach().requires_grad_(not fixed)
        y = linear(x, weight, bias).view(STEPS, -1, outputs)
        s = snnfast.ops.lif(y, tau=2.0, surrogate="atan", return_state=False)[0]
        wanted = (weight, bias) if fixed else (weight, bias, x)
        return torch.autograd.grad(s, wanted, grad.view_as(s))

    def products() -> tuple[Tensor, ...]:
        x, w = spikes[PARTS[0]], weight.detach()
        return F.linear(x, w, bias.detach()), grad.t() @ x, grad @ w

    def steps(linear: Callable[..., Tensor], parts: tuple[float, ...], dense: bool) -> Any:
        return {
            step_name(p, fixed=fixed, dense=dense): partial(step, linear, spikes[p], fixed)
            for p in parts
            for fixed in (False, True)
        }

    ours = snnfast.ops.spike_linear
    dense_steps = steps(F.linear, (NEVER_SLOWER,), True)
    passes = {
        FLOOR: {FLOOR: products},
        "linear": dense_steps,
        neurons.OURS: {FLOOR: products, **steps(ours, PARTS, False), **dense_steps},
    }
    return Prepared(neurons.chosen(task.implementation, passes), {})


def verdicts(found: list[Row]) -> list[dict[str, Any]]:
    """Compare pairs of passes of one process with the limits, for one thread."""
    seconds = {
        (row.task.shape, row.name): row.minimum_seconds
        for row in found
        if row.task.implementation == neurons.OURS and row.task.threads == 1
    }
    judged = []
    for shape in {shape for shape, _ in seconds}:
        for part, wanted, limit in LIMITS:
            name = step_name(part, fixed=not wanted)
            ratio = seconds[shape, name] / seconds[shape, FLOOR]
            judged.append(verdict(shape, name, "of three products", ratio, "<=", limit))
        for fixed in (False, True):
            name = step_name(NEVER_SLOWER, fixed=fixed)
            dense = seconds[shape, step_name(NEVER_SLOWER, fixed=fixed, dense=True)]
            ratio = seconds[shape, name] / dense
            judged.append(verdict(shape, name, "of the step with nn.Linear", ratio, "<=", 1.0))
    return judged
