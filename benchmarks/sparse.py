"""Recurrent LIF neurons with sparse connections, ``x [T, B, N]``, 2 % and 10 % of all pairs, about 10 % spikes.

``dense`` is ``ops.recurrent`` with the same weights as a matrix, whose spikes are the same bit for bit; ``csr`` is a
loop over steps with a sparse CSR tensor of PyTorch. Gradients are those of ``x`` and the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.report import Row, verdict
from benchmarks.timing import Prepared, Task

SHAPES = ((100, 16, 1000), (100, 16, 4000))
QUICK_SHAPES = ((30, 3, 40),)
FLOOR = "clone"
BASELINES = ("dense", "csr")
PARTS = (0.02, 0.1)
FORWARD, TRAINING = "forward", "forward+backward"
# Smallest time of each relative to snnfast, forward and backward, by neurons and share of pairs.
LIMITS = {
    (1000, 0.02, "dense"): 5.0,
    (1000, 0.1, "dense"): 4.0,
    (1000, 0.02, "csr"): 15.0,
    (4000, 0.02, "dense"): 25.0,
    (4000, 0.1, "dense"): 8.0,
}
NEURON: dict[str, Any] = {"tau": 10.0, "decay_input": False, "v_reset": None, "detach_reset": True}


class Atan(torch.autograd.Function):
    """A spike, with the derivative of ``snnfast``'s ``atan``."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (u,), (grad,) = ctx.saved_tensors, grads
        return grad / (1 + (math.pi * u) ** 2)


def looped(matrix: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor) -> Tensor:
    """Return spikes of a loop over steps; ``matrix(weight)`` is the CSR tensor ``[N, N]``."""
    connections, v, s, found = matrix(weight), torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for current in x:
        h = 0.9 * v + current + (connections @ s.T).T
        s = Atan.apply(h - 1)  # type: ignore[no-untyped-call]
        v = h - s.detach()
        found.append(s)
    return torch.stack(found)


def runs(name: str, N: int, part: float) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """Return an implementation as a function of ``x`` and its weights, and these weights."""
    from snnfast import connect, ops

    degree = max(round(N * part), 1)
    c = connect.fixed_outdegree(N, outdegree=degree, multapses=False, seed=0)
    weight = torch.randn(len(c), generator=torch.Generator().manual_seed(1)) / degree**0.5
    if name == neurons.OURS:
        return lambda x, w: ops.sparse_recurrent(x, w, c, **NEURON)[0], weight
    if name == "dense":
        return lambda x, w: ops.recurrent(x, w, **NEURON)[0], c.dense(weight)
    sparse = c.to_torch(weight)
    size = (N, N)
    rows, columns = sparse.crow_indices(), sparse.col_indices()

    def matrix(values: Tensor) -> Tensor:
        return torch.sparse_csr_tensor(rows, columns, values, size, check_invariants=False)

    return partial(looped, matrix), sparse.values()


def prepare(task: Task) -> Prepared:
    from snnfast.check import state_dtype

    T, B, N = task.shape
    generator = torch.Generator().manual_seed(2)
    x = (torch.rand(T, B, N, generator=generator) * 0.25).to(task.device, task.torch_dtype)
    grad = torch.randn(T, B, N, generator=generator).to(x)
    if task.implementation == FLOOR:
        return Prepared({FLOOR: x.clone}, {})
    passes: dict[str, Callable[[], object]] = {}
    facts = {}
    for part in PARTS:
        run, weight = runs(task.implementation, N, part)
        weight = weight.to(state_dtype(x.dtype))
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()

        def forward(run: Any = run, weight: Tensor = weight) -> Tensor:
            with torch.no_grad():
                return run(x, weight)  # type: ignore[no-any-return]

        def training(run: Any = run, leaves: tuple[Tensor, ...] = leaves) -> object:
            return torch.autograd.grad(run(*leaves), leaves, grad)

        passes |= {f"{FORWARD}, {part:.0%}": forward, f"{TRAINING}, {part:.0%}": training}
        facts[f"spikes, {part:.0%}"] = forward().double().sum().item()
    return Prepared(passes, facts)


def verdicts(found: list[Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limits, for one thread."""
    judged = []
    for row in found:
        for part in PARTS:
            shape, name = row.task.shape, f"{TRAINING}, {part:.0%}"
            limit = LIMITS.get((shape[-1], part, row.task.implementation))
            if (row.name, row.task.threads) == (name, 1) and row.per_ours is not None and limit:
                ratio = f"{row.task.implementation} / snnfast"
                judged.append(verdict(shape, name, ratio, row.per_ours, ">=", limit))
    return judged
