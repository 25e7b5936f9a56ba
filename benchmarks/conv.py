"""One training step of a small convolutional network on ``[T, B, C, H, W]``.

``relu`` is the same network with ReLU for neurons: only convolutions, pooling and optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((16, 32, 1, 28, 28),)
QUICK_SHAPES = ((2, 2, 1, 8, 8),)
BASELINES = neurons.BASELINES
FLOOR = "relu"
STEP = "training step"
CHANNELS, CLASSES = 32, 10


class Net(nn.Module):
    """Two convolutions and a linear readout of the mean; the stateless layers see time as batch."""

    def __init__(self, size: tuple[int, ...], neurons: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        in_channels, height, width = size
        self.conv1 = nn.Conv2d(in_channels, CHANNELS, 3, padding=1)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.readout = nn.Linear(CHANNELS * (height // 4) * (width // 4), CLASSES)
        self.neurons = neurons

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[:2]
        for conv, neuron in zip((self.conv1, self.conv2), self.neurons):
            spikes = neuron(conv(x.flatten(0, 1)).unflatten(0, time))
            x = functional.avg_pool2d(spikes.flatten(0, 1), 2).unflatten(0, time)
        return self.readout(x.flatten(2)).mean(0)


def prepare(task: Task) -> Prepared:
    def neuron() -> Callable[[Tensor], Tensor]:
        return functional.relu if task.implementation == FLOOR else neurons.lif(task.implementation)

    torch.manual_seed(0)
    net = Net(task.shape[2:], [neuron(), neuron()]).to(task.device, task.torch_dtype)
    x = (3 * torch.randn(task.shape)).to(task.device, task.torch_dtype)
    labels = torch.randint(CLASSES, (task.shape[1],)).to(task.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    loss = step().item()
    return Prepared({STEP: step}, {} if task.implementation == FLOOR else {"first loss": loss})
