"""A training step of permuted MNIST, ``steps x batch``: the network of ``snnfast train sequence --task psmnist``.

Images are digits in the package, enlarged to 28 x 28. The time is for an epoch of 60,000 images, extrapolated from
training steps of a batch. ``products`` is the network without neurons. ``plain_loop`` is the network in plain PyTorch,
pixel by pixel, with the same weights and spikes. ``delays`` is snnfast with delays of up to 300 steps. The results use
batches of 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import neurons
from benchmarks.digits import enlarged
from benchmarks.timing import Prepared, Task
from snnfast.nn import Time
from snnfast_zoo.papers.sequence.data import rows
from snnfast_zoo.papers.sequence.train import sequence
from snnfast_zoo.train.place import Data

SHAPES = ((784, 8), (784, 64))
QUICK_SHAPES = ((6, 2),)
FLOOR, DELAYS, PLAIN = "products", "delays", "plain_loop"
BASELINES = (DELAYS, PLAIN)
EPOCH, IMAGES = "epoch", 60_000
Net = Callable[[Tensor], Tensor]


def prepare(task: Task) -> Prepared:
    steps, batch = task.shape
    name = task.implementation
    if name not in (neurons.OURS, FLOOR, *BASELINES):
        raise neurons.Skip(f"choose from {neurons.OURS}, {', '.join((FLOOR, *BASELINES))}")
    images, labels = enlarged(28)
    x = rows("psmnist", images[:batch])[:, :steps].to(task.device, task.torch_dtype)
    labels = labels[:batch].to(task.device)
    settings = sequence.preset("psmnist", max_delay=300.0 if name == DELAYS else 0.0)
    torch.manual_seed(0)
    net: Any = sequence.model(settings, Data((x, labels), (x, labels), "test")).to(task.torch_dtype)
    run: Net = neurons.baseline(PLAIN).sequence(net) if name == PLAIN else net
    if name == FLOOR:
        plain = [module for module in net.layers if isinstance(module, Time)]
        run = nn.Sequential(*plain)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-9, fused=True)

    def loss() -> Tensor:
        y = run(x.transpose(0, 1)).mean(0) if name == FLOOR else run(x)
        return functional.cross_entropy(y, labels)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    facts: dict[str, float] = {}
    if name != FLOOR:
        with torch.no_grad():
            facts["loss"] = loss().item()
            if name != PLAIN:
                rates = [spikes.mean().item() for spikes in net.spikes(x)]
                facts["spikes a neuron and step"] = sum(rates) / len(rates)
    return Prepared({EPOCH: step}, facts, {EPOCH: batch / IMAGES})
