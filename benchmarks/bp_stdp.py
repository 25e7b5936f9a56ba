"""BP-STDP of one layer pair, ``T x B x inputs x neurons``, including backpropagated errors.

Spikes and errors are as sparse as on MNIST: one input in 40 fires in a step, one error in 20 is not 0. ``products`` are
the two dense matrix products of the rule, without the computation of windows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((50, 100, 784, 500), (20, 1, 784, 500))
QUICK_SHAPES = ((5, 2, 7, 4),)
FLOOR = "products"
BASELINES = ("matrix_products",)
STEP, SEQUENCE = "step", "sequence"
LR, EPSILON = 5e-4, 4

Learn = Callable[[Tensor, Tensor, Tensor], object]


def ours() -> dict[str, Learn]:
    from snnfast import ops

    def learn(update: str, epsilon: int) -> Learn:
        return lambda w, pre, error: ops.bp_stdp_(w, pre, error, lr=LR, epsilon=epsilon, update=update, validate=False)

    passes = {update: learn(update, EPSILON) for update in (STEP, SEQUENCE)}
    return passes | {f"{SEQUENCE}, epsilon 40": learn(SEQUENCE, 40)}


def products(w: Tensor, pre: Tensor, error: Tensor) -> Tensor:
    errors, windows = error.flatten(0, 1), pre.flatten(0, 1).to(w.dtype)
    passed = errors @ w
    w.addmm_(errors.T, windows, alpha=LR)
    return passed


def prepare(task: Task) -> Prepared:
    steps, batch, inputs, outputs = task.shape
    generator = torch.Generator().manual_seed(0)
    pre = (torch.rand((steps, batch, inputs), generator=generator) < 1 / 40).to(task.device)
    error = torch.randn((steps, batch, outputs), generator=generator)
    error[torch.rand(error.shape, generator=generator) > 1 / 20] = 0
    error = error.to(task.device, task.torch_dtype)
    start = torch.randn((outputs, inputs), generator=generator).to(task.device, task.torch_dtype)
    w = start.clone()
    if task.implementation == FLOOR:
        learners: dict[str, Learn] = {FLOOR: products}
    elif task.implementation == neurons.OURS:
        learners = ours()
    else:
        learners = neurons.baseline(task.implementation).bp_stdp()

    def run(learn: Learn) -> Tensor:
        w.copy_(start)
        learn(w, pre, error)
        return w

    first = next(iter(learners.values()))
    facts = {"mean weight": run(first).double().mean().item()}
    return Prepared({name: lambda learn=learn: run(learn) for name, learn in learners.items()}, facts)
