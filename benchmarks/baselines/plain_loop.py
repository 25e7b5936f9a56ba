"""Plain PyTorch as a user writes it: a loop over the time steps, ``x[t]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .tuned_loop import Spike, fire

NOTE = ""
ALPHA = 25.0  # slope of the fast sigmoid


def step(x: Tensor, s: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    current = x + functional.linear(s, w)
    h = v + (current - v) / 2.0
    s = Spike.apply(h - 1.0)
    return s, h * (1.0 - s)


def recurrent(weight: Tensor, step: Callable[..., tuple[Tensor, Tensor]] = step) -> Callable[[Tensor, Tensor], Tensor]:
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
    """Run a :class:`snnfast.papers.SequenceNetwork` of adLIF neurons: all layers of a step, then the next step."""
    layers: list[Any] = list(net.layers)
    hidden = [(time.layer, layer) for time, layer in zip(layers[:-2:2], layers[1:-2:2])]
    readout, out = layers[-2].layer, layers[-1]
    keep = 1 - 1 / out.tau

    def run(x: Tensor) -> Tensor:
        decays = [[torch.exp(-1 / layer.neuron.value(name)) for name in ("tau", "tau_w")] for _, layer in hidden]
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
    """Run the step function of a neuron of :func:`snnfast.neuron`, with a hard reset to 0."""

    def run(x: Tensor) -> Tensor:
        states = [torch.zeros_like(x[0]) for _ in op.states]
        spikes = []
        for t in range(x.shape[0]):
            s, *states = op.step(fire, x[t], *states)
            spikes.append(s)
        return torch.stack(spikes)

    return run


class EProp:
    """e-prop of Bellec et al. (2020): recurrent ALIF neurons, a hard reset to 0, detached, and a leaky readout."""

    def __init__(self, net: Any, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.first, cell, self.readout, self.li = net
        self.cell, self.neuron, self.loss = cell, cell.neuron, loss
        self.reset()

    def reset(self) -> None:
        self.state: Any = None

    def step(self, x: Tensor, target: Tensor) -> None:
        """Run the steps ``x`` ``[K, B, inputs]``, one after the other; add to the gradients."""
        with torch.no_grad():
            for x_t, wanted in zip(x, target):
                self._step(x_t, wanted)

    def _step(self, x: Tensor, target: Tensor) -> None:
        neuron, w_in, w_rec, w_out = (self.neuron, *(m.weight for m in (self.first, self.cell, self.readout)))
        leak, kappa = 1 - 1 / neuron.tau, 1 - 1 / self.li.tau
        rho, beta, rows = neuron.decay_adapt, neuron.beta, w_in.shape[0]
        if self.state is None:
            neurons = x.new_zeros(len(x), rows)
            synapses = x.new_zeros(len(x), rows, x.shape[1] + rows + 1)
            self.state = *(neurons,) * 3, *(synapses,) * 3, x.new_zeros(target.shape), neurons
        s, v, a, eps_v, eps_a, filtered, y, seen_out = self.state
        seen = torch.cat([x, s, torch.ones_like(x[:, :1])], 1)
        weight = torch.cat([w_in, w_rec, self.first.bias[:, None]], 1)
        h = leak * v + functional.linear(seen, weight) / neuron.tau
        u = h - (neuron.v_threshold + beta * a)
        fired = (u >= 0).to(x)
        slope = 1 / (1 + (torch.pi * u).square())  # of atan
        # The membrane after a reset is independent of the past.
        eps_v = (leak * (1 - s))[..., None] * eps_v + seen[:, None] / neuron.tau
        trace = slope[..., None] * (eps_v - beta * eps_a)
        eps_a = rho * eps_a + trace
        filtered = kappa * filtered + trace / self.li.tau
        seen_out = kappa * seen_out + fired / self.li.tau
        y = kappa * y + functional.linear(fired, w_out, self.readout.bias) / self.li.tau
        with torch.enable_grad():
            out = y.detach().requires_grad_()
            (error,) = torch.autograd.grad(self.loss(out, target), out)
        found = ((error @ w_out)[..., None] * filtered).sum(0)
        inputs = x.shape[1]
        for parameter, grad in (
            (self.first.weight, found[:, :inputs]),
            (self.cell.weight, found[:, inputs:-1]),
            (self.first.bias, found[:, -1]),
            (w_out, error.T @ seen_out),
        ):
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad
        v, a = h * (1 - fired), rho * a + fired
        self.state = fired, v, a, eps_v, eps_a, filtered, y, seen_out


class OTTT:
    """OTTT of Xiao et al. (2022): linear layers and LIF neurons in turn, soft resets, and a leaky readout."""

    def __init__(self, net: Any, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        layers = list(net)
        self.linears, self.neurons, self.loss = layers[::2], layers[1::2], loss
        self.reset()

    def reset(self) -> None:
        self.traces: list[Tensor | float] = [0.0] * len(self.linears)
        self.membranes: list[Tensor | float] = [0.0] * len(self.linears)

    def step(self, x: Tensor, target: Tensor) -> None:
        """Run the steps ``x`` ``[K, B, inputs]``, one after the other; add to the gradients."""
        with torch.no_grad():
            for x_t, wanted in zip(x, target):
                self._step(x_t, wanted)

    def _step(self, s: Tensor, target: Tensor) -> None:
        slopes = []
        for k, (linear, neuron) in enumerate(zip(self.linears, self.neurons)):
            leak = 1 - 1 / neuron.tau
            self.traces[k] = leak * self.traces[k] + torch.cat([s, torch.ones_like(s[:, :1])], 1)
            u = leak * self.membranes[k] + linear(s) / neuron.tau
            if k + 1 == len(self.linears):
                self.membranes[k] = u
                break
            s = (u >= neuron.v_threshold).to(u)
            self.membranes[k] = u - neuron.v_threshold * s
            slopes.append(1 / (1 + (torch.pi * (u - neuron.v_threshold)).square()))  # of atan
        with torch.enable_grad():
            out = u.detach().requires_grad_()
            (delta,) = torch.autograd.grad(self.loss(out, target), out)
        for k in reversed(range(len(self.linears))):
            linear, trace = self.linears[k], self.traces[k]
            delta = delta / self.neurons[k].tau
            found = delta.T @ trace
            for parameter, grad in ((linear.weight, found[:, :-1]), (linear.bias, found[:, -1])):
                parameter.grad = grad if parameter.grad is None else parameter.grad + grad
            if k > 0:
                delta = (delta @ linear.weight) * slopes[k - 1]
