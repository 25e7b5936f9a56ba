"""Plain PyTorch as a user writes it, with recurrent weights: a step at a time, ``x[t]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .tuned_loop import Spike, fire

NOTE = ""
ALPHA = 25.0  # of the fast sigmoid


def step(x: Tensor, s: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    current = x + functional.linear(s, w)
    h = v + (current - v) / 2.0
    s = Spike.apply(h - 1.0)
    return s, h * (1.0 - s)


def recurrent(
    weight: Tensor, step: Callable[..., tuple[Tensor, Tensor]] = step
) -> Callable[[Tensor, Tensor], Tensor]:
    def run(x: Tensor, w: Tensor) -> Tensor:
        s = v = torch.zeros_like(x[0])
        spikes = []
        for t in range(x.shape[0]):
            s, v = step(x[t], s, v, w)
            spikes.append(s)
        return torch.stack(spikes)

    return run


class FastSigmoid(Spike):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad / (1 + ALPHA * u.abs()).square()


def sequence(net: Any) -> Callable[[Tensor], Tensor]:
    """A :class:`snnfast.papers.SequenceNetwork` of adLIF neurons: all layers of a step, then the next step."""
    layers: list[Any] = list(net.layers)
    hidden = [(time.layer, layer) for time, layer in zip(layers[:-2:2], layers[1:-2:2])]
    readout, out = layers[-2].layer, layers[-1]
    keep = 1 - 1 / out.tau

    def run(x: Tensor) -> Tensor:
        decays = [
            [torch.exp(-1 / layer.neuron.value(name)) for name in ("tau", "tau_w")]
            for _, layer in hidden
        ]
        couplings = [[layer.neuron.value(name) for name in ("a", "b")] for _, layer in hidden]
        states = [x.new_zeros(3, len(x), layer.features).unbind() for _, layer in hidden]
        v_out, total = x.new_zeros(len(x), net.num_classes), x.new_zeros(len(x), net.num_classes)
        for t in range(x.shape[1]):
            y = x[:, t]
            for k, (linear, layer) in enumerate(hidden):
                (decay, decay_w), (a, b), (s, v, w) = decays[k], couplings[k], states[k]
                current = functional.linear(y, linear.weight, linear.bias)
                current = current + functional.linear(s, layer.weight)
                h = decay * v + (1 - decay) * (current - w)
                y = FastSigmoid.apply(h - 1.0)
                v = h * (1 - y.detach())
                w = decay_w * w + (1 - decay_w) * layer.neuron.q * (a * v + b * y)
                states[k] = (y, v, w)
            current = functional.linear(y, readout.weight, readout.bias)
            v_out = keep * v_out + (1 - keep) * current
            total = total + v_out
        return total / x.shape[1]

    return run


def own_neuron(op: Any) -> Callable[[Tensor], Tensor]:
    """The step function of a neuron of :func:`snnfast.neuron`, with a hard reset to 0."""

    def run(x: Tensor) -> Tensor:
        states = [torch.zeros_like(x[0]) for _ in op.states]
        spikes = []
        for t in range(x.shape[0]):
            s, *states = op.step(fire, x[t], *states)
            spikes.append(s)
        return torch.stack(spikes)

    return run
