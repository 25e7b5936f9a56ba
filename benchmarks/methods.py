"""Surrogate gradients, e-prop and exact events beside each other on Yin-Yang: accuracy, time and memory in one run.

Networks 5-300-3 of LIF neurons with exponential synapses; as many epochs, batches and updates for each. Exact events
are ``snnfast train spikeprop --dataset yin-yang --neurons lif``: neurons fire once, the first output spike decides. In
steps the same times come in, neurons fire as often as they do, and the mean membrane of leaky integrators decides,
whose cross-entropy is the loss at every step. Of two pairs of time constants and three learning rates these were the
best on the validation part. Steps of 1 ms leave eleven values of each input. e-prop takes ten steps a call; without
recurrent connections its gradient is that of backpropagation through time.

CPU seconds an epoch are those of 5,000 samples forward and backward with the updates, and of scoring 1,000. KB a sample
is what a training step keeps for its gradients: saved tensors, and for e-prop its states and traces.
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
from snnfast.papers.bohte2002.procedure import Spikeprop
from snnfast.train import Run, Score, descend, fit
from snnfast.train.runs.run import Data

HEADER = ("method", "accuracy", "of the seeds", "CPU s an epoch", "KB a sample")
TAU, TAU_SYN, T_MAX = 20.0, 5.0, 30.0  # ms, in steps
LR, CALL = 0.1, 10  # in steps; steps of a call of e-prop


class Trained(NamedTuple):
    """Accuracy in percent, CPU seconds an epoch, and KB a sample that a training step keeps."""

    accuracy: float
    seconds: float
    kept: float


class InSteps(nn.Module):
    """The network in steps of ``dt`` ms: input times ``[B, I]`` to membranes of the outputs ``[B, T, classes]``."""

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
        """The input's spikes ``[T, B, I]``."""
        return spikes_in_steps(t[:, :, None], self.dt, T_MAX)

    def forward(self, t: Tensor) -> Tensor:
        membranes: Tensor = self.layers(self.steps(t))
        return membranes.transpose(0, 1)


def loss(v: Tensor, labels: Tensor) -> Tensor:
    return ce_steps(v.transpose(0, 1), labels)


def in_steps(dt: float, online: bool, data: Data, hidden: int, epochs: int, batch: int) -> Trained:
    """By surrogate gradients in steps of ``dt`` ms, of whole sequences or by e-prop."""
    x, labels = data.train
    net = InSteps(x.shape[1], hidden, data.classes, dt)
    calibrate_(net, x[:1000])
    optimizer = torch.optim.Adam(net.parameters(), LR, fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    run = Run(net, optimizer, cosine, score=Score(lambda v: v.mean(1).argmax(1)))
    learn = EProp(net.layers, ce_steps)

    def step(t: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        optimizer.zero_grad()
        learn.reset()
        v = torch.cat([learn.step(part, labels) for part in net.steps(t).split(CALL)])
        descend(net, optimizer, 1.0)
        return v.transpose(0, 1), None

    how: dict[str, Any] = {"step": step} if online else {"clip": 1.0}
    begin = time.process_time()
    fit(run, data.train, data.held_out, epochs=epochs, batch_size=batch, loss=loss, calibrate=None, **how)
    seconds = (time.process_time() - begin) / epochs
    accuracy = 100 * run.history[-1]["held_out_accuracy"]
    one = x[:batch], labels[:batch]
    if not online:
        return Trained(accuracy, seconds, saved_by(lambda: net(one[0])) / 1024 / batch)
    learn.reset()
    part = net.steps(one[0])[:CALL]
    kept = saved_by(lambda: learn.step(part, one[1])) + sum(t.nbytes for t in tensors(learn.state_dict()))
    return Trained(accuracy, seconds, kept / 1024 / batch)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors within dictionaries and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)


def exactly(procedure: Spikeprop, settings: Any, data: Data) -> Trained:
    """By EventProp, as the command trains."""
    begin = time.process_time()
    result = procedure.train(settings, echo=None, progress=False)
    seconds = (time.process_time() - begin) / settings.epochs
    batch = data.train[0][: settings.batch_size]
    return Trained(100 * result.accuracy, seconds, saved_by(lambda: result.model(batch)) / 1024 / len(batch))


def rows(hidden: int, epochs: int, seeds: int, validate: bool) -> Iterator[tuple[str, ...]]:
    """The table, a method a row."""
    procedure = Spikeprop()

    def settings(seed: int) -> Any:
        how: dict[str, Any] = {"neurons": "lif", "hidden": (hidden,), "epochs": epochs, "validate": validate}
        return procedure.preset("yin-yang", seed=seed, **how)

    batch = settings(0).batch_size
    data = procedure.load(settings(0))
    methods: dict[str, Callable[[int], Trained]] = {
        "surrogate gradients, steps of 1 ms": lambda seed: in_steps(1.0, False, data, hidden, epochs, batch),
        "e-prop, steps of 1 ms": lambda seed: in_steps(1.0, True, data, hidden, epochs, batch),
        "exact events": lambda seed: exactly(procedure, settings(seed), data),
        "surrogate gradients, steps of 0.1 ms": lambda seed: in_steps(0.1, False, data, hidden, epochs, batch),
    }
    for name, train in methods.items():
        found = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            found.append(train(seed))
        each = ", ".join(f"{trained.accuracy:.1f}" for trained in found)
        mean, seconds, kept = (statistics.mean(column) for column in zip(*found))
        yield name, f"{mean:.2f} %", each, f"{seconds:.2f}", f"{kept:.1f}"
