"""Surrogate gradients, e-prop and exact events compared on Yin-Yang: accuracy, time and memory in one run.

Networks 5-300-3 of LIF neurons with exponential synapses; all methods have equal epochs, batches and updates. Exact
events are ``snnfast train spikeprop --dataset yin-yang --neurons lif``: neurons fire once, the first output spike
decides. Simulations in steps get the same input times, their neurons fire any number of times, and the mean membrane of
leaky integrators decides; the loss is its cross-entropy at every step. Their time constants (of two pairs) and learning
rate (of three) were the best on the validation part. Steps of 1 ms distinguish eleven values of each input. e-prop
takes ten steps per call; without recurrent connections its gradient is that of backpropagation through time.

CPU seconds per epoch cover 5,000 samples forward and backward with the updates, and scoring 1,000. KB per sample is the
memory that a training step holds for its gradients: saved tensors, and for e-prop its states and traces.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.eventprop import saved_by, spikes_in_steps
from snnfast.learning import EProp
from snnfast.nn import LI, CubaLIF, calibrate_
from snnfast.nn.loss import ce_steps
from snnfast.train import Output, Run, Score, descend, fit
from snnfast_zoo.papers.bohte2002.train import spikeprop
from snnfast_zoo.train.place import Data

HEADER = ("method", "accuracy", "of the seeds", "CPU s an epoch", "KB a sample")
TAU, TAU_SYN, T_MAX = 20.0, 5.0, 30.0  # ms, in steps
LR, CALL = 0.1, 10  # in steps; steps of a call of e-prop


class MeasuredRun(NamedTuple):
    """Accuracy in percent, CPU seconds per epoch, and KB per sample that a training step saves."""

    accuracy: float
    seconds: float
    saved: float


class InSteps(nn.Module):
    """The network in steps of ``dt`` ms, from input times ``[B, I]`` to output membranes ``[B, T, classes]``."""

    def __init__(self, inputs: int, hidden: int, classes: int, dt: float) -> None:
        super().__init__()
        self.dt = dt
        decay, decay_syn = (math.exp(-dt / tau) for tau in (TAU, TAU_SYN))
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden, bias=False),
            CubaLIF(decay=decay, decay_syn=decay_syn),
            nn.Linear(hidden, classes),
            LI(decay=decay),
        )

    def steps(self, t: Tensor) -> Tensor:
        """Return the input spikes ``[T, B, I]``."""
        return spikes_in_steps(t[:, :, None], self.dt, T_MAX)

    def forward(self, t: Tensor) -> Tensor:
        membranes: Tensor = self.layers(self.steps(t))
        return membranes.transpose(0, 1)


def loss(v: Tensor, labels: Tensor) -> Tensor:
    return ce_steps(v.transpose(0, 1), labels)


def in_steps(dt: float, online: bool, data: Data, hidden: int, epochs: int, batch: int) -> MeasuredRun:
    """Train in steps of ``dt`` ms: by surrogate gradients of whole sequences, or online by e-prop."""
    x, labels = data.train
    net = InSteps(x.shape[1], hidden, data.classes, dt)
    calibrate_(net, x[:1000])
    optimizer = torch.optim.Adam(net.parameters(), LR, fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    run = Run(net, optimizer, cosine, clip=1.0, score=Score(lambda v: v.mean(1).argmax(1)))
    learn = EProp(net.layers, ce_steps)

    def step(t: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        optimizer.zero_grad()
        learn.reset()
        v = torch.cat([learn.step(part, labels) for part in net.steps(t).split(CALL)])
        descend(net, optimizer, 1.0)
        return v.transpose(0, 1), None

    options: dict[str, Any] = {
        "step": step if online else None,
        "calibrate": None,
        "output": Output(progress=False, echo=None),
    }
    begin = time.process_time()
    fit(run, data.train, data.held_out, epochs=epochs, batch_size=batch, loss=loss, **options)
    seconds = (time.process_time() - begin) / epochs
    accuracy = 100 * run.history[-1]["held_out_accuracy"]
    first = x[:batch], labels[:batch]
    if not online:
        return MeasuredRun(accuracy, seconds, saved_by(lambda: net(first[0])) / 1024 / batch)
    learn.reset()
    part = net.steps(first[0])[:CALL]
    saved = saved_by(lambda: learn.step(part, first[1])) + sum(t.nbytes for t in tensors(learn.state_dict()))
    return MeasuredRun(accuracy, seconds, saved / 1024 / batch)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield all tensors within dictionaries and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)


def exactly(settings: Any, data: Data) -> MeasuredRun:
    """Train by EventProp, as the command does."""
    begin = time.process_time()
    with spikeprop.place(settings, progress=False, echo=None) as place:
        result = spikeprop.train(settings, place)
    seconds = (time.process_time() - begin) / settings.epochs
    batch = data.train[0][: settings.batch_size]
    return MeasuredRun(100 * result.accuracy, seconds, saved_by(lambda: result.model(batch)) / 1024 / len(batch))


def rows(hidden: int, epochs: int, seeds: int, validate: bool) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table, one per method."""

    def settings(seed: int) -> Any:
        options: dict[str, Any] = {"neurons": "lif", "hidden": (hidden,), "epochs": epochs, "validate": validate}
        return spikeprop.preset("yin-yang", seed=seed, **options)

    batch = settings(0).batch_size
    data = spikeprop.load(settings(0))
    methods: dict[str, Callable[[int], MeasuredRun]] = {
        "surrogate gradients, steps of 1 ms": lambda seed: in_steps(1.0, False, data, hidden, epochs, batch),
        "e-prop, steps of 1 ms": lambda seed: in_steps(1.0, True, data, hidden, epochs, batch),
        "exact events": lambda seed: exactly(settings(seed), data),
        "surrogate gradients, steps of 0.1 ms": lambda seed: in_steps(0.1, False, data, hidden, epochs, batch),
    }
    for name, train in methods.items():
        found = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            found.append(train(seed))
        accuracies = ", ".join(f"{trained.accuracy:.1f}" for trained in found)
        mean, seconds, saved = (statistics.mean(column) for column in zip(*found))
        yield name, f"{mean:.2f} %", accuracies, f"{seconds:.2f}", f"{saved:.1f}"
