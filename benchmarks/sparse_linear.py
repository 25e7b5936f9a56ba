"""A linear map of spikes through 2 % and 10 % of all pairs, ``rows x inputs x outputs``, 5 % spikes.

``csr`` is the product with a sparse CSR tensor of PyTorch, ``dense`` with the matrix. Gradients are those of ``x`` and
the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((1600, 4000, 4000),)
QUICK_SHAPES = ((50, 70, 20),)
FLOOR = "clone"
BASELINES = ("dense", "csr")
PARTS = (0.02, 0.1)
SPIKES = 0.05


def runs(name: str, inputs: int, outputs: int, part: float) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """Return an implementation as a function of ``x`` and its weights, and these weights."""
    from snnfast import connect, ops

    degree = max(round(outputs * part), 1)
    c = connect.fixed_outdegree(inputs, outputs, outdegree=degree, multapses=False, seed=0)
    weight = torch.randn(len(c), generator=torch.Generator().manual_seed(1)) / (inputs * part) ** 0.5
    if name == neurons.OURS:
        return lambda x, w: ops.sparse_linear(x, w, c), weight
    if name == "dense":
        return torch.nn.functional.linear, c.dense(weight)
    matrix = c.to_torch(weight)
    rows, columns, size = matrix.crow_indices(), matrix.col_indices(), matrix.shape

    def product(x: Tensor, values: Tensor) -> Tensor:
        connections = torch.sparse_csr_tensor(rows, columns, values, size, check_invariants=False)
        return (connections @ x.T).T

    return product, matrix.values()


def prepare(task: Task) -> Prepared:
    from snnfast.check import state_dtype

    rows, inputs, outputs = task.shape
    generator = torch.Generator().manual_seed(2)
    x = (torch.rand(rows, inputs, generator=generator) < SPIKES).to(task.device, task.torch_dtype)
    grad = torch.randn(rows, outputs, generator=generator).to(x)
    if task.implementation == FLOOR:
        return Prepared({FLOOR: x.clone}, {})
    passes: dict[str, Callable[[], object]] = {}
    facts = {}
    for part in PARTS:
        run, weight = runs(task.implementation, inputs, outputs, part)
        leaves = x.clone().requires_grad_(), weight.to(state_dtype(x.dtype)).clone().requires_grad_()

        def forward(run: Any = run, weight: Tensor = leaves[1]) -> Tensor:
            with torch.no_grad():
                return run(x, weight)  # type: ignore[no-any-return]

        def training(run: Any = run, leaves: tuple[Tensor, ...] = leaves) -> object:
            return torch.autograd.grad(run(*leaves), leaves, grad)

        passes |= {f"forward, {part:.0%}": forward, f"forward+backward, {part:.0%}": training}
        facts[f"sum, {part:.0%}"] = forward().double().sum().item()
    return Prepared(passes, facts)
