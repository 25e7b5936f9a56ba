"""Training steps of snnTorch networks with a loop over time steps in ``forward``: original, and with the loop replaced.

``snnfast`` is ``replace(net)``; ``steps`` is ``replace(net, sequences=False)``, which keeps the loop. A network is
named by its input: ``T x B x 784`` is that of snnTorch's tutorial 5, 784-1000-10, ``T x B x 1 x 28 x 28``
the convolutional one of tutorial 6, both with images that are the same at every step; ``T x B x 40`` is a sequence for
recurrent, synaptic and leaky neurons, 40-64-32-5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((25, 128, 784), (25, 4, 784), (25, 64, 1, 28, 28), (100, 16, 40))
QUICK_SHAPES = ((3, 2, 784), (4, 2, 40))
FLOOR = "snntorch"
BASELINES = ("steps",)
STEP = "training step"


def prepare(task: Task) -> Prepared:
    from benchmarks.baselines import snntorch
    from snnfast.nn import replace

    net: nn.Module = snntorch.looping(task.shape).to(task.device, task.torch_dtype)
    if task.implementation == neurons.OURS:
        net = replace(net)
    elif task.implementation == "steps":
        net = replace(net, sequences=False)
    elif task.implementation != FLOOR:
        raise neurons.Skip(f"choose from {FLOOR}, {neurons.OURS}, {', '.join(BASELINES)}")
    shape = task.shape if len(task.shape) == 3 and task.shape[2] == 40 else task.shape[1:]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    x = x.to(task.device, task.torch_dtype)
    target = torch.zeros(task.shape[1], dtype=torch.long, device=task.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)  # a rate of 0, so that all steps are the same
    shown: dict[str, float] = {}

    def step() -> Tensor:
        optimizer.zero_grad()
        spikes = net(x)
        loss = functional.cross_entropy(spikes.mean(0), target)
        loss.backward()
        optimizer.step()
        shown["spikes a step"] = spikes.mean().item()
        return loss.detach()

    loss = step().item()
    return Prepared({STEP: step}, {"first loss": loss, **shown})
