"""Networks of other libraries: original, after ``replace``, after ``replace`` and ``accelerate``, and with ReLU.

Times are minima over ``--repeats`` alternating runs in float32, of training steps and of evaluation. The networks are
models of SpikingJelly and Norse; ``replace`` also replaces loops over time steps in ``forward``. With ReLU, it replaces
the neurons on all T x B images. The peak is the memory of a step, gradients of the weights included. The rate is the
share of neurons that fire in a step; ``--gain`` scales the weights of batch normalisation, which determine it. The
largest difference compares outputs with those of the library in float64, because in float32 rounding changes some
spikes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import memory, network, neurons, report
from benchmarks.timing import Task, once

LIBRARIES = ("spikingjelly", "norse")
THEIRS, FAST, WRITTEN_HERE, COMPILED, RELU = "as it is", "and accelerate", "written here", "torch.compile", "ReLU"
WAYS = (THEIRS, "replace", FAST, WRITTEN_HERE, COMPILED, RELU)
ALONE = (THEIRS, FAST, WRITTEN_HERE)  # ways whose evaluation and peak are measured, too
HEADER = (
    *("network", "batch", "rate", *WAYS, "as it is / accelerated", "accelerated / ReLU"),
    *(f"{what}, {way}" for what in ("evaluation", "peak MB") for way in ALONE),
    "largest difference",
)
WRITTEN = {"sew_resnet18, 32 x 32": network.sew_resnet18, "spiking_vgg11_bn, 32 x 32": network.vgg11}


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


def line(name: str, model: Model, repeats: int, clock: str, compiled: bool) -> tuple[str, ...]:
    """Measure a network; return its row of the table."""
    from snnfast.nn import accelerate, replace, reset
    from snnfast.nn.spiking import Spiking

    replaced = replace(model.net)
    fast = accelerate(replaced)
    target = torch.zeros(model.x.shape[1], dtype=torch.long)
    task = Task("zoo", name, tuple(model.x.shape), repeats=repeats, clock=clock)
    ways = {THEIRS: (model.net, model.reset), "replace": (replaced, reset), FAST: (fast, reset)}
    if rewritten := written(name, model.net):
        ways[WRITTEN_HERE] = rewritten, reset
    same = [*ways]  # all but ReLU must agree
    if compiled:
        ways[COMPILED] = torch.compile(copy.deepcopy(model.net)), model.reset  # type: ignore[assignment]
    if relu := with_relu(model.net):
        ways[RELU] = relu, id

    def run(net: nn.Module, begin: Callable[[nn.Module], object], x: Tensor) -> Tensor:
        begin(net)
        result = net(x)
        return result[0] if isinstance(result, tuple) else result

    def step(way: str) -> None:
        net = ways[way][0]
        net.zero_grad()
        y = run(*ways[way], model.x)
        functional.cross_entropy(y if y.dim() < 3 else y.mean(0), target).backward()

    def evaluate(way: str) -> None:
        net = ways[way][0]
        net.eval()
        with torch.no_grad():
            run(*ways[way], model.x)
        net.train()

    def peak(way: str) -> float:
        net, begin = ways[way]
        net.zero_grad()
        begin(net)  # the step would free memory that was there before
        return memory.peak(partial(step, way))

    alone = [way for way in ALONE if way in ways]
    seconds = dict(zip(ways, in_turn([partial(step, way) for way in ways], task)))
    evaluation = dict(zip(alone, in_turn([partial(evaluate, way) for way in alone], task)))
    peaks = {way: peak(way) for way in alone}
    layers = [module for module in fast.modules() if isinstance(module, Spiking)]
    rate = network.fired(layers, partial(run, *ways[FAST], model.x))
    with torch.no_grad():
        want, *results = [run(ways[way][0].double(), ways[way][1], model.x.double()) for way in same]
    return (
        *(name, report.shape_text(task.shape), f"{rate:.3f}"),
        *(report.milliseconds(seconds[way]) if way in seconds else "-" for way in WAYS),
        f"{seconds[THEIRS] / seconds[FAST]:.2f}",
        f"{seconds[FAST] / seconds[RELU]:.2f}" if RELU in seconds else "-",
        *(report.milliseconds(evaluation[way]) if way in alone else "-" for way in ALONE),
        *(f"{peaks[way]:.0f}" if way in alone else "-" for way in ALONE),
        f"{max((y - want).abs().max().item() for y in results):.0e}",
    )


def written(name: str, net: nn.Module) -> nn.Module | None:
    """Return the network ``name`` written in layers of snnfast, with the weights of ``net``; None if there is none."""
    from snnfast.nn import like

    make = WRITTEN.get(name.rpartition(", ")[0])
    if make is None:
        return None
    rewritten = make(partial(like, "spikingjelly.LIFNode", surrogate="atan", detach_reset=True))
    network.copy_parameters(net, rewritten)
    return rewritten


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
