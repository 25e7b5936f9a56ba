"""Plain PyTorch: the reference of snnfast, a loop over time with the equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchmarks import diehl_cook as network_benchmark
from benchmarks import diehl_cook_conductance as conductance_benchmark
from benchmarks.spikeprop import DT

NOTE = ""


def lif() -> Callable[[Tensor], Tensor]:
    import snnfast

    return lambda x: snnfast.reference.lif(x, tau=2.0, surrogate="atan", return_state=False)[0]


def diehl_cook(network: network_benchmark.Network, spikes: Tensor) -> Callable[[], object]:
    import snnfast

    return lambda: network_benchmark.learn(network, spikes[None], snnfast.reference.diehl_cook_)


def diehl_cook_conductance(network: network_benchmark.Network, spikes: Tensor) -> Callable[[], object]:
    import snnfast

    op = snnfast.reference.diehl_cook_
    return lambda: conductance_benchmark.learn(network, spikes[None], op)


def spikeprop(t_in: Tensor, w: Tensor, delays: Tensor, **constants: float) -> Any:
    import snnfast

    return snnfast.reference.spikeprop(t_in, w, delays, dt=DT, **constants)
