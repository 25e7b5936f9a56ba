"""Networks of other libraries: original, after ``replace``, after ``replace`` and ``accelerate``, and with ReLU.

Times are minima over ``--repeats`` alternating runs in float32, of training steps and of evaluation. The networks are
models of SpikingJelly and Norse; ``replace`` also replaces loops over time steps in ``forward``. With ReLU, it replaces
the neurons on all T x B images. The peak is the memory of a step. The rate is the share of neurons that fire in a
step; ``--gain`` scales the weights of batch normalisation, which determine it. The largest difference compares outputs
with those of the library in float64, because in float32 rounding changes some spikes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import memory, neurons, report
from benchmarks.network import fired
from benchmarks.timing import Task, once

LIBRARIES = ("spikingjelly", "norse")
HEADER = (
    *("network", "batch", "rate", "as it is", "replace", "and accelerate", "ReLU"),
    *("as it is / accelerated", "accelerated / ReLU", "evaluation, as it is", "accelerated"),
    *("peak MB, as it is", "accelerated", "largest difference"),
)


class Model(NamedTuple):
    net: nn.Module
    x: Tensor  # [T, B, ...]
    reset: Callable[[nn.Module], object] = id  # before each batch


def models(library: str, gain: float = 1.0, chosen: str = "") -> Iterator[tuple[str, Model]]:
    """Yield the networks of a library whose names contain ``chosen``."""
    for name, make in neurons.baseline(library).ZOO.items():
        if chosen not in name:
            continue
        torch.manual_seed(0)
        model: Model = make()
        for module in model.net.modules():
            if "Dropout" in type(module).__name__:  # the order of random masks differs
                module.p = 0.0
        with torch.no_grad():  # larger weights, so that neurons fire in every layer
            for parameter in model.net.parameters():
                if parameter.dim() > 1:
                    parameter *= 6
            for module in model.net.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.weight *= gain
        yield name, model


def line(name: str, model: Model, repeats: int, clock: str) -> tuple[str, ...]:
    """Return a row of the table."""
    from snnfast.nn import accelerate, replace, reset
    from snnfast.nn.spiking import Spiking

    replaced = replace(model.net)
    fast = accelerate(replaced)
    target = torch.zeros(model.x.shape[1], dtype=torch.long)
    task = Task("zoo", name, tuple(model.x.shape), repeats=repeats, clock=clock)
    relu = with_relu(model.net)
    ways = [(model.net, model.reset), (replaced, reset), (fast, reset)]

    def run(net: nn.Module, begin: Callable[[nn.Module], object], x: Tensor) -> Tensor:
        begin(net)
        result = net(x)
        return result[0] if isinstance(result, tuple) else result

    def step(net: nn.Module, begin: Callable[[nn.Module], object]) -> None:
        net.zero_grad()
        y = run(net, begin, model.x)
        functional.cross_entropy(y if y.dim() < 3 else y.mean(0), target).backward()

    def evaluate(net: nn.Module, begin: Callable[[nn.Module], object]) -> None:
        net.eval()
        with torch.no_grad():
            run(net, begin, model.x)
        net.train()

    seconds = in_turn([partial(step, *way) for way in (*ways, *([(relu, id)] if relu else []))], task)
    alone = in_turn([partial(evaluate, *way) for way in (ways[0], ways[2])], task)
    peaks = [memory.peak(partial(step, *way)) for way in (ways[0], ways[2])]
    layers = [module for module in fast.modules() if isinstance(module, Spiking)]
    rate = fired(layers, partial(run, *ways[2], model.x))
    with torch.no_grad():
        want, *results = [run(net.double(), begin, model.x.double()) for net, begin in ways]
    return (
        *(name, report.shape_text(task.shape), f"{rate:.3f}"),
        *map(report.milliseconds, seconds),
        *("-",) * (relu is None),
        f"{seconds[0] / seconds[2]:.2f}",
        f"{seconds[2] / seconds[3]:.2f}" if relu else "-",
        *map(report.milliseconds, alone),
        *(f"{mb:.0f}" for mb in peaks),
        f"{max((y - want).abs().max().item() for y in results):.0e}",
    )


def in_turn(runs: list[Callable[[], object]], task: Task) -> list[float]:
    """Return the minimum seconds of each of ``runs``, alternating, so that load of the machine affects all equally."""
    for run in runs:
        run()
    rounds = [[once(run, task)() for run in runs] for _ in range(task.repeats)]
    return [min(found) for found in zip(*rounds)]


def with_relu(net: nn.Module) -> nn.Module | None:
    """Copy a network of SpikingJelly with ReLU for its neurons; return None for other networks."""
    net, found = copy.deepcopy(net), False
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if type(child).__name__.endswith("Node"):
                setattr(parent, name, nn.ReLU())
                found = True
    return net if found else None
