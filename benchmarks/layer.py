"""Linear(n, n) and a layer of neurons over 500 steps: the task of Open Neuromorphic's benchmark.

All implementations have the same dynamics and weights, and timing waits for the device. ``linear`` is
the same without neurons, a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((500, 16, 512), (500, 16, 4096))
QUICK_SHAPES = ((3, 2, 5),)
BASELINES = neurons.BASELINES
FLOOR = "linear"
FORWARD, TRAINING = "forward", "forward+backward"


def prepare(task: Task) -> Prepared:
    run: Callable[[Tensor], Tensor] = (
        (lambda x: x) if task.implementation == FLOOR else neurons.lif(task.implementation)
    )
    torch.manual_seed(0)
    n = task.shape[-1]
    # The input's scale lets some of the neurons fire at every step.
    x = (3 * torch.randn(task.shape)).to(task.device, task.torch_dtype)
    grad = torch.randn(task.shape).to(task.device, task.torch_dtype)
    linear = nn.Linear(n, n).to(task.device, task.torch_dtype)

    def forward() -> Tensor:
        with torch.no_grad():
            return run(linear(x))

    def training() -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(linear(x)), tuple(linear.parameters()), grad)

    facts = {} if task.implementation == FLOOR else {"spikes a step": forward().double().mean().item()}
    return Prepared({FORWARD: forward, TRAINING: training}, facts)
