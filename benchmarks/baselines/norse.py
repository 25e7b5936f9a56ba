"""Norse: the cell in a loop, because a cell takes ``[T, B, ...]`` for one large batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from norse.torch import (
    LI,
    LIF,
    LICell,
    LIFBoxCell,
    LIFBoxParameters,
    LIFCell,
    LIFRecurrentCell,
    Lift,
    LSNNRecurrentCell,
    SequentialState,
)
from norse.torch.models.conv import ConvNet
from torch import Tensor, nn

from benchmarks.zoo import Model

NOTE = "spikes at h > 1; SuperSpike surrogate"


def over_time(cell: nn.Module, x: Tensor) -> Tensor:
    """Run a cell from rest; return its spikes."""
    state = None
    spikes = []
    for x_t in x.unbind(0):
        s, state = cell(x_t, state)
        spikes.append(s)
    return torch.stack(spikes)


def lif() -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        parameters = LIFBoxParameters(
            tau_mem_inv=torch.tensor(500.0, dtype=x.dtype, device=x.device),
            v_leak=torch.tensor(0.0, dtype=x.dtype, device=x.device),
            v_th=torch.tensor(1.0, dtype=x.dtype, device=x.device),
            v_reset=torch.tensor(0.0, dtype=x.dtype, device=x.device),
        )
        return over_time(LIFBoxCell(parameters, dt=0.001), x)

    return run


def recurrent(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    cell = LSNNRecurrentCell(len(weight), len(weight), dt=0.001).to(weight)
    with torch.no_grad():
        cell.recurrent_weights.copy_(weight)
        cell.input_weights.copy_(torch.eye(len(weight)))

    return lambda x, w: over_time(cell, x)


class Recurrent(nn.Module):
    """Cells in a loop over the time steps."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.fc1 = LIFRecurrentCell(100, 128), nn.Linear(128, 64)
        self.lif, self.fc2, self.out = LIFCell(), nn.Linear(64, 10, bias=False), LICell()

    def forward(self, x: Tensor) -> Tensor:
        s1 = s2 = s3 = None
        voltages = []
        for t in range(x.shape[0]):
            z, s1 = self.recurrent(x[t], s1)
            z, s2 = self.lif(self.fc1(z), s2)
            v, s3 = self.out(self.fc2(z), s3)
            voltages.append(v)
        return torch.stack(voltages)


def convolutions() -> Model:
    net = SequentialState(
        *(Lift(nn.Conv2d(1, 16, 5)), LIF(), Lift(nn.MaxPool2d(2))),
        *(Lift(nn.Conv2d(16, 32, 5)), LIF(), Lift(nn.MaxPool2d(2))),
        *(nn.Flatten(2), nn.Linear(512, 10, bias=False), LI()),
    )
    return Model(net, (torch.rand(20, 32, 1, 28, 28) < 0.3).float())


def loop() -> Model:
    return Model(Recurrent(), (torch.rand(32, 64, 100) < 0.3).float())


def own_model() -> Model:
    """Norse's ConvNet, which fills a tensor of voltages step by step."""
    return Model(ConvNet(dtype=torch.get_default_dtype()), torch.rand(20, 8, 1, 28, 28))


ZOO = {"16C5-MP2-32C5-MP2-10": convolutions, "100-128-64-10, recurrent": loop, "ConvNet": own_model}
