"""One layer of neurons, ``x [T, B, N]``: a kernel that is bound by memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((16, 64, 1024), (32, 32, 4096), (100, 32, 4096), (4, 32, 4096))
QUICK_SHAPES = ((3, 2, 5),)
BASELINES = neurons.BASELINES
# The floor: a copy of x into other memory; malloc keeps it (timing.KEEP_FREED). "copy" goes into memory that is there.
FLOOR = "clone"
FORWARD, TRAINING, BACKWARD = "forward", "forward+backward", "backward"
# Tensors of x's size that must pass the memory bus: read x, write the spikes; then read x and the
# spikes' gradient, write the gradient of x.
TENSORS_MOVED = {FORWARD: 2, TRAINING: 5, BACKWARD: 3, "copy": 2}


class Limit(NamedTuple):
    """What snnfast promises on the CPU with one thread and float32."""

    shape: tuple[int, ...]
    name: str
    clones: float
    spikingjelly: float
    tuned_loop: float


# Where all memory is warm, that of the clones, too.
LIMITS = (
    Limit((16, 64, 1024), TRAINING, clones=4, spikingjelly=10, tuned_loop=8),
    Limit((32, 32, 4096), TRAINING, clones=4, spikingjelly=10, tuned_loop=8),
    Limit((100, 32, 4096), TRAINING, clones=4, spikingjelly=3, tuned_loop=2),
    Limit((4, 32, 4096), FORWARD, clones=2, spikingjelly=3, tuned_loop=2),
)


def bytes_moved(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return TENSORS_MOVED[name] * torch.Size(shape).numel() * dtype.itemsize


def inputs(task: Task) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(task.device).manual_seed(0)
    x = 1 + torch.randn(task.shape, generator=generator, device=task.device)
    grad = torch.randn(task.shape, generator=generator, device=task.device)
    return x.to(task.torch_dtype), grad.to(task.torch_dtype)


def prepare(task: Task) -> Prepared:
    x, grad = inputs(task)
    if task.implementation == FLOOR:
        out = torch.empty_like(x)
        return Prepared({FLOOR: x.clone, "copy": lambda: out.copy_(x)}, {})
    return passes(neurons.lif(task.implementation), x, grad)


def passes(run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Prepared:
    """Forward alone, and with the gradient of ``x``, of neurons ``x -> spikes``; on a GPU also that gradient alone."""
    leaf = x.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            return run(x)

    def training() -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(leaf), leaf, grad)

    facts = {"spikes a step": forward().double().mean().item()}
    timed: dict[str, Callable[[], object]] = {FORWARD: forward, TRAINING: training}
    if x.is_cuda:
        spikes = run(leaf)
        timed[BACKWARD] = lambda: torch.autograd.grad(spikes, leaf, grad, retain_graph=True)
    return Prepared(timed, facts)
