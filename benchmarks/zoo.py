"""Training steps of other libraries' networks: as they are, after ``replace``, and after ``accelerate`` as well.

Forward and backward, float32, minima of ``--repeats`` steps. The networks are some of SpikingJelly's models, and two of
Norse; ``replace`` takes a loop over the steps in ``forward`` apart. The largest difference is that of what
they give from what the library gives, in float64: in float32 rounding turns a spike here and there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import neurons, report
from benchmarks.timing import Task, time_runs

LIBRARIES = ("spikingjelly", "norse")
HEADER = (
    *("network", "batch", "as it is", "replace", "and accelerate", "as it is / accelerated"),
    "largest difference",
)


class Model(NamedTuple):
    net: nn.Module
    x: Tensor  # [T, B, ...]
    reset: Callable[[nn.Module], object] = id  # before each batch


def models(library: str) -> Iterator[tuple[str, Model]]:
    """The networks of a library, each made when it is asked for."""
    for name, make in neurons.baseline(library).ZOO.items():
        torch.manual_seed(0)
        model: Model = make()
        for module in model.net.modules():
            if "Dropout" in type(module).__name__:  # masks are drawn in another order
                module.p = 0.0
        with torch.no_grad():  # so that neurons fire in every layer
            for parameter in model.net.parameters():
                if parameter.dim() > 1:
                    parameter *= 6
        yield name, model


def line(name: str, model: Model, repeats: int, clock: str) -> tuple[str, ...]:
    """A line of the table."""
    from snnfast.nn import accelerate, replace, reset

    replaced = replace(model.net)
    fast = accelerate(replaced)
    target = torch.zeros(model.x.shape[1], dtype=torch.long)
    task = Task("zoo", name, tuple(model.x.shape), repeats=repeats, clock=clock)

    ways = [(model.net, model.reset), (replaced, reset), (fast, reset)]

    def run(net: nn.Module, begin: Callable[[nn.Module], object], x: Tensor) -> Tensor:
        begin(net)
        result = net(x)
        return result[0] if isinstance(result, tuple) else result

    def step(net: nn.Module, begin: Callable[[nn.Module], object]) -> None:
        y = run(net, begin, model.x)
        functional.cross_entropy(y if y.dim() < 3 else y.mean(0), target).backward()

    seconds = [min(time_runs(partial(step, *way), task)) for way in ways]
    with torch.no_grad():
        want, *results = [run(net.double(), begin, model.x.double()) for net, begin in ways]
    return (
        name,
        report.shape_text(task.shape),
        *map(report.milliseconds, seconds),
        f"{seconds[0] / seconds[-1]:.1f}",
        f"{max((y - want).abs().max().item() for y in results):.0e}",
    )
