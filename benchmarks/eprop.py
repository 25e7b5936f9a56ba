"""e-prop for recurrent ALIF neurons, ``steps x batch x neurons``, with one input per neuron and ten outputs.

A sequence in parts of 50 steps by :class:`snnfast.learning.EProp`, and in single steps. ``plain_loop`` is the same rule
in plain PyTorch, one step at a time, with the equations of Bellec et al. (2020) for these neurons; ``through_time`` is
backpropagation through time over the whole sequence. Facts: spikes per step, and the norm of the gradient of the input
weights, which differs for ``through_time``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import neurons, report
from benchmarks.timing import Prepared, Task
from snnfast import learning
from snnfast.nn import ALIF, LI, Recurrent

SHAPES = ((500, 16, 100),)
QUICK_SHAPES = ((6, 2, 5),)
FLOOR = "through_time"
BASELINES = ("plain_loop",)
SEQUENCE, SINGLE = "sequence", "in single steps"
STEPS = 50  # per call
SLOWER = 8.0  # least time of plain PyTorch, relative to snnfast


def network(features: int) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(features, features),
        Recurrent(ALIF(5.0, beta=0.2, detach_reset=True), features),
        nn.Linear(features, 10),
        LI(5.0),
    )
    with torch.no_grad():
        net[0].weight.mul_(20)
        net[1].weight.mul_(0.3)
    return net


def squares(y: Tensor, target: Tensor) -> Tensor:
    return (y - target).square().sum()


def prepare(task: Task) -> Prepared:
    return prepared(task, network(task.shape[2]), "EProp")


def prepared(task: Task, net: nn.Sequential, rule: str) -> Prepared:
    """Prepare whole sequences by a rule of :mod:`snnfast.learning`; ``plain_loop`` has a class of the same name."""
    steps, batch, features = task.shape
    x = (torch.rand(steps, batch, features) < 0.1).float()
    target = torch.rand(steps, batch, 10)
    learn = getattr(learning, rule)(net, squares)
    name = task.implementation
    if name == "plain_loop":
        learn = getattr(neurons.baseline(name), rule)(net, squares)
    elif name not in (neurons.OURS, FLOOR):
        raise neurons.Skip(f"choose from {neurons.OURS}, {FLOOR}, {', '.join(BASELINES)}")

    def online(part: int) -> None:
        net.zero_grad()
        learn.reset()
        for x_part, target_part in zip(x.split(part), target.split(part)):
            learn.step(x_part, target_part)

    def through_time() -> None:
        net.zero_grad()
        squares(net(x), target).backward()

    if name == FLOOR:
        through_time()
        return Prepared({SEQUENCE: through_time}, {})
    online(STEPS)
    weight: Any = net[0].weight
    with torch.no_grad():
        facts = {"spikes a step": net[1](net[0](x)).mean().item(), "gradient": weight.grad.norm().item()}
    passes = {SEQUENCE: lambda: online(STEPS)}
    if name == neurons.OURS:
        passes[SINGLE] = lambda: online(1)
    return Prepared(passes, facts)


def verdicts(found: list[report.Row]) -> list[dict[str, Any]]:
    """Return whether single-threaded times meet the promised ratio."""
    return [
        report.verdict(row.task.shape, row.name, "plain_loop / snnfast", row.per_ours, ">=", SLOWER)
        for row in found
        if row.task.threads == 1 and row.task.implementation == "plain_loop" and row.task.shape in SHAPES
    ]
