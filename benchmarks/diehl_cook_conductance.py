"""The network of Diehl and Cook with the paper's conductances, ``T x inputs x neurons``: time of one presentation.

A presentation has T steps of 0.5 ms and 300 steps of rest, with learning and the settings of the preset "paper". The
network is first trained with 3,000 presentations. The images are those of the benchmark ``diehl_cook`` at half the
rate, as in the authors' program: about 3 input spikes per step. ``weights`` only copies the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import diehl_cook, neurons
from benchmarks.diehl_cook import ALONE, ENCODED, FROZEN, RUN, DiehlCookNetwork, rates, trains
from benchmarks.timing import Prepared, Task

SHAPES = ((700, 784, 100), (700, 784, 400))
QUICK_SHAPES = ((20, 64, 10),)
FLOOR = "weights"
BASELINES = ("reference_loop",)
LENGTH = 32
LEARNED = 3_000
DT, REST, TAU_THETA, NORM, LONGEST_DELAY = 0.5, 150.0, 1e7, 78 / 784, 20
INTENSITY = 63.75 / 128  # factor on the rates of benchmarks.diehl_cook


@functools.cache
def delays(outputs: int, inputs: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (outputs, inputs)
    drawn = torch.randint(LONGEST_DELAY + 1, shape, generator=generator, dtype=torch.uint8)
    return drawn.to(device)


@functools.cache
def learned(inputs: int, outputs: int, presentations: int) -> DiehlCookNetwork:
    """Train the network with a number of presentations."""
    generator = torch.Generator().manual_seed(0)
    w = 0.3 * torch.rand((inputs, outputs), generator=generator)
    theta = torch.full((outputs,), 20.0, dtype=torch.float64)
    network = DiehlCookNetwork(w.t(), theta, diehl_cook.images(inputs) * INTENSITY)
    for first in range(0, presentations, 1000):
        order = torch.randint(len(network.hz), (min(1000, presentations - first),), generator=generator)
        learn(network, rates(network.hz[order], first, 700))
    return network


def learn(network: DiehlCookNetwork, x: object, op: Callable[..., object] | None = None, **changes: object) -> object:
    """Present ``x`` and learn."""
    from snnfast import ops, plasticity

    outputs, inputs = network.w.shape
    arguments = {
        "synapses": "conductance",
        "rule": plasticity.triplet(1e-4, 1e-2),
        "norm": NORM * inputs,
        "delays": delays(outputs, inputs, network.w.device),
        "dt": DT,
        "rest": REST,
        "tau_theta": TAU_THETA,
        "validate": False,
    }
    return (op or ops.diehl_cook_)(x, network.w, network.theta, **{**arguments, **changes})


def ours(network: DiehlCookNetwork, steps: int) -> dict[str, Callable[[], object]]:
    from snnfast import ops

    spikes = trains(network, LENGTH, steps, DT)
    run, alone = ops.Events.from_dense(spikes), ops.Events.from_dense(spikes[:1])
    encoded = rates(network.hz[:LENGTH], 0, steps)
    frozen = {"rule": None, "theta_plus": 0.0, "tau_theta": None, "norm": None}
    return {
        RUN: lambda: learn(network, run),
        ALONE: lambda: learn(network, alone),
        ENCODED: lambda: learn(network, encoded),
        FROZEN: lambda: learn(network, run, **frozen),
    }


def prepare(task: Task) -> Prepared:
    steps, inputs, outputs = task.shape
    quick = task.shape in QUICK_SHAPES
    if task.implementation == FLOOR:
        w = torch.rand(inputs, outputs, device=task.device)
        return Prepared({RUN: lambda: w.clone()}, {})
    if task.implementation != neurons.OURS:
        network = diehl_cook.on(task.device, learned(inputs, outputs, 0))
        baseline = neurons.baseline(task.implementation)
        spikes = trains(network, 1, steps, DT)[0]
        return Prepared({RUN: baseline.diehl_cook_conductance(network, spikes)}, {})
    network = diehl_cook.on(task.device, learned(inputs, outputs, 20 if quick else LEARNED))
    passes = ours(network, steps)
    result = passes[RUN]()
    facts = {"spikes a presentation": result.counts.sum().item() / len(result.counts)}  # type: ignore[attr-defined]
    return Prepared(passes, facts, {name: 1 if name == ALONE else LENGTH for name in passes})
