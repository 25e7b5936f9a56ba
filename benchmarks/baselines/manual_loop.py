"""Plain PyTorch: the training loop of the n3ml manual for BP-STDP, one image and one step after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.bp_stdp_network import BETA, EPSILON, LR, SCALE, loader
from benchmarks.timing import Prepared, Task

NOTE = "without the manual's prints and plots"
PASS = "fit"
IMAGES = 10


class Layer:
    def __init__(self, inputs: int, outputs: int, threshold: float) -> None:
        self.w, self.threshold = torch.randn(outputs, inputs), threshold
        self.rest()

    def rest(self) -> None:
        self.u = torch.zeros(len(self.w))
        self.o = torch.zeros(len(self.w))

    def __call__(self, x: Tensor) -> Tensor:
        self.u = self.u + self.w @ x
        self.o = (self.u >= self.threshold).float()
        self.u[self.o > 0.5] = 0
        return self.o


def learn(layers: list[Layer], buffer: list[list[Tensor]], wanted: Tensor, label: int) -> None:
    if wanted[label] < 0.5:
        return
    windows = [torch.stack(spikes).sum(0) for spikes in buffer]
    fired = windows[-1] > 0
    error = -fired.float()
    error[label] = 0.0 if fired[label] else 1.0
    for layer, window in reversed(list(zip(layers, windows))):
        passed = (error @ layer.w) * (window > 0)
        layer.w += LR * torch.outer(error, window)
        error = passed


def loss(r: Tensor, z: Tensor, label: int) -> Tensor:
    """Loss of the manual."""
    e = torch.zeros_like(r)
    for t in range(e.size(0)):
        if z[t, label] > 0.5:
            first = max(t - EPSILON, 0)
            for i in range(e.size(1)):
                if i == label:
                    if torch.sum(r[first:t, i]) < 0.5:
                        e[t, i] = 1
                elif torch.sum(r[first:t, i]) > 0.5:
                    e[t, i] = -1
    return (torch.sum(e, dim=[0, 1]) / r.size(0)) ** 2


def bp_stdp_network(task: Task) -> Prepared:
    steps, batch, *sizes = task.shape
    if batch != 1:
        raise neurons.Skip("the manual's loop takes one image at a time")
    *hidden, classes = sizes[1:]
    thresholds = [0.9] * len(hidden) + [0.025 * hidden[-1]]
    layers = [Layer(i, o, v) for i, o, v in zip(sizes, sizes[1:], thresholds)]
    images = loader(sizes[0], classes, 1, IMAGES)

    def fit() -> float:
        total, right = 0.0, 0
        for image, target in images:
            label = int(target)
            x = (image[0] >= SCALE * torch.rand(steps, sizes[0])).float()
            wanted = torch.zeros(steps, classes)
            wanted[:, label] = (torch.rand(steps) <= BETA / 1000).float()
            buffer: list[list[Tensor]] = [[] for _ in sizes]
            outputs = []
            for t in range(steps):
                spikes = x[t]
                buffer[0].append(spikes.clone())
                for layer, spikes_of_layer in zip(layers, buffer[1:]):
                    spikes = layer(spikes)
                    spikes_of_layer.append(spikes.clone())
                outputs.append(spikes.clone())
                for spikes_of_layer in buffer:
                    if len(spikes_of_layer) > EPSILON + 1:
                        spikes_of_layer.pop(0)
                learn(layers, buffer, wanted[t], label)
            for layer in layers:
                layer.rest()
            answer = torch.stack(outputs)
            right += int(answer.sum(0).argmax() == label)
            total += float(loss(answer, wanted, label))
        return total + right

    return Prepared({PASS: fit}, {}, {PASS: IMAGES})
