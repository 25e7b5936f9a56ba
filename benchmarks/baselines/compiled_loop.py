"""The tuned loop under torch.compile, which unrolls it; beyond a few steps it compiles for minutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import neurons

from . import plain_loop, tuned_loop

NOTE = "without the compilation"
MAX_T = 32


def lif() -> Callable[[Tensor], Tensor]:
    compiled = torch.compile(tuned_loop.run, dynamic=False)

    def run(x: Tensor) -> Tensor:
        if x.shape[0] > MAX_T:
            raise neurons.Skip(f"compiles for too long: T = {x.shape[0]} > {MAX_T}")
        return compiled(x)

    return run


def recurrent(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The plain loop with a compiled step, because all steps together compile for too long."""
    return plain_loop.recurrent(weight, torch.compile(plain_loop.step, dynamic=False))


def own_neuron(op: Any) -> Callable[[Tensor], Tensor]:
    """All steps in one graph, compiled in this process without a cache, so that its CPU seconds are counted."""
    import torch._inductor.config as inductor

    inductor.compile_threads, inductor.force_disable_caches = 1, True
    run: Callable[[Tensor], Tensor] = torch.compile(tuned_loop.own_neuron(op), dynamic=False)
    return run
