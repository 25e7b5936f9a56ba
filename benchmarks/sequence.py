"""A training step of permuted MNIST, ``steps x batch``: the network of ``snnfast train sequence --task psmnist``.

Images are digits of the package, enlarged to 28 x 28. The time is that of an epoch of 60,000 images, from forward and
backward passes and Adam's steps for a few batches. ``products`` is the network without neurons. ``plain_loop`` is it in
plain PyTorch, one pixel after the other, with the same weights and spikes. ``delays`` is ours with delays of up to 300
steps. Batches of 8 are those of the results.
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
from snnfast.model import SequenceNetwork
from snnfast.nn import Time
from snnfast.procedure.run import Data
from snnfast.procedure.sequence import Sequence, rows

SHAPES = ((784, 8), (784, 64))
QUICK_SHAPES = ((6, 2),)
FLOOR, DELAYS, PLAIN = "products", "delays", "plain_loop"
BASELINES = (DELAYS, PLAIN)
EPOCH, IMAGES = "epoch", 60_000
PSMNIST = Sequence()
ALPHA = 25.0  # of the fast sigmoid
Net = Callable[[Tensor], Tensor]


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad / (1 + ALPHA * u.abs()).square()


def plain_loop(net: SequenceNetwork) -> Net:
    """The network of ``net`` as a user writes it: all layers of a step, then the next step."""
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
                y = Spike.apply(h - 1.0)
                v = h * (1 - y.detach())
                w = decay_w * w + (1 - decay_w) * layer.neuron.q * (a * v + b * y)
                states[k] = (y, v, w)
            current = functional.linear(y, readout.weight, readout.bias)
            v_out = keep * v_out + (1 - keep) * current
            total = total + v_out
        return total / x.shape[1]

    return run


def prepare(task: Task) -> Prepared:
    steps, batch = task.shape
    name = task.implementation
    if name not in (neurons.OURS, FLOOR, *BASELINES):
        raise neurons.Skip(f"choose from {neurons.OURS}, {', '.join((FLOOR, *BASELINES))}")
    images, labels = enlarged(28)
    x = rows("psmnist", images[:batch])[:, :steps].to(task.device, task.torch_dtype)
    labels = labels[:batch].to(task.device)
    settings = PSMNIST.preset("psmnist", max_delay=300.0 if name == DELAYS else 0.0)
    torch.manual_seed(0)
    net: Any = PSMNIST.model(settings, Data((x, labels), (x, labels), "test")).to(task.torch_dtype)
    run: Net = plain_loop(net) if name == PLAIN else net
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
