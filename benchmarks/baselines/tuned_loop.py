"""Plain PyTorch, tuned by hand: fused elementwise operations and an unbind, as an expert would write it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NOTE = ""


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad / (1 + (math.pi * u).square())


def fire(h: Tensor, threshold: Any) -> tuple[Tensor, Tensor, Tensor]:
    s: Tensor = Spike.apply(h - threshold)
    return s, h, torch.addcmul(h, h, s, value=-1)


def run(x: Tensor) -> Tensor:
    v = torch.zeros_like(x[0])
    spikes = []
    # unbind, because the backward pass of x[t] fills a gradient of the size of x at every step.
    for x_t in x.unbind(0):
        h = torch.lerp(v, x_t, 0.5)
        s: Tensor = Spike.apply(h - 1.0)
        v = torch.addcmul(h, h, s, value=-1)
        spikes.append(s)
    return torch.stack(spikes)


def lif() -> Callable[[Tensor], Tensor]:
    return run


def recurrent(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def run(x: Tensor, w: Tensor) -> Tensor:
        s = v = torch.zeros_like(x[0])
        spikes = []
        for x_t in x.unbind(0):
            h = torch.lerp(v, torch.addmm(x_t, s, w.T), 0.5)
            s = Spike.apply(h - 1.0)
            v = torch.addcmul(h, h, s, value=-1)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def own_neuron(op: Any) -> Callable[[Tensor], Tensor]:
    """Run the step function of a neuron of :func:`snnfast.neuron`, with a hard reset to 0."""

    def run(x: Tensor) -> Tensor:
        states = [torch.zeros_like(x[0]) for _ in op.states]
        spikes = []
        for x_t in x.unbind(0):
            s, *states = op.step(fire, x_t, *states)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def own_recurrent(op: Any) -> Callable[..., Tensor]:
    """Run the same with recurrent connections."""

    def run(x: Tensor, w: Tensor, **parameters: Tensor) -> Tensor:
        s = torch.zeros_like(x[0])
        states = [s for _ in op.states]
        spikes = []
        for x_t in x.unbind(0):
            s, *states = op.step(fire, torch.addmm(x_t, s, w.T), *states, **parameters)
            spikes.append(s)
        return torch.stack(spikes)

    return run
