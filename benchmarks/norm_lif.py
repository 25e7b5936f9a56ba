"""Fused batch normalisation and LIF neurons, ``x [T, B, C, H, W]``, compared with the two separate layers.

``layers`` is ``Time(nn.BatchNorm2d), LIF``, and ``lif`` the neurons without normalisation. Training is forward and
backward with the statistics of the batch, evaluation is forward with the running statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((4, 32, 64, 28, 28), (16, 8, 64, 28, 28), (4, 32, 64, 16, 16), (16, 32, 64, 8, 8))
QUICK_SHAPES = ((2, 3, 4, 5, 5),)
FLOOR = "clone"
BASELINES = ("layers", "lif")
FORMATS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}


def prepare(task: Task) -> Prepared:
    from snnfast.nn import LIF, NormLIF, Time

    generator = torch.Generator(task.device).manual_seed(0)
    like = {"device": task.device, "dtype": task.torch_dtype}
    images = 1 + torch.randn(task.shape, generator=generator, **like).flatten(0, 1)
    names = [f"{name}, {fmt}" for fmt in FORMATS for name in ("training", "evaluation")]
    if task.implementation == FLOOR:
        return Prepared(dict.fromkeys(names, images.clone), {})

    norm, neuron = nn.BatchNorm2d(task.shape[2]), LIF(tau=2.0)
    makers: dict[str, Callable[[], nn.Module]] = {
        neurons.OURS: lambda: NormLIF(norm, neuron),
        "layers": lambda: nn.Sequential(Time(norm), neuron),
        "lif": lambda: neuron,
    }
    net = neurons.chosen(task.implementation, makers)().to(task.device)
    passes: dict[str, Callable[[], object]] = {}
    for name, layout in FORMATS.items():
        x = images.contiguous(memory_format=layout).view(task.shape).requires_grad_()
        passes[f"training, {name}"] = partial(train, net, x, torch.randn_like(x))
        passes[f"evaluation, {name}"] = partial(evaluate, net, x)
    return Prepared(passes, {"spikes a step": net(x).mean().item(), "MB kept": saved_megabytes(net, x)})


def train(net: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    net.train()
    return torch.autograd.grad(net(x), (x, *net.parameters()), grad)


@torch.no_grad()
def evaluate(net: nn.Module, x: Tensor) -> Tensor:
    return net.eval()(x)  # type: ignore[no-any-return]


def saved_megabytes(net: nn.Module, x: Tensor) -> float:
    """Return the MB that a forward pass in training saves for the backward pass, including ``x``."""
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    net.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(x)
    return sum(storages.values()) / 1e6
