"""snnTorch, with reset to zero in the same step."""

from __future__ import annotations

from collections.abc import Callable

import snntorch
import torch
from snntorch import utils
from torch import Tensor, nn

from benchmarks import network as networks
from benchmarks.timing import Task

NOTE = "spikes at h > 1 instead of h >= 1"


def lif() -> Callable[[Tensor], Tensor]:
    # Leaky does not scale its input: here membrane, threshold and surrogate are twice as wide.
    neurons = snntorch.Leaky(
        beta=0.5,
        threshold=2.0,
        spike_grad=snntorch.surrogate.atan(alpha=1.0),
        reset_mechanism="zero",
        reset_delay=False,
    )

    def run(x: Tensor) -> Tensor:
        neurons.to(x.device)
        v = torch.zeros_like(x[0])
        spikes = []
        for x_t in x.unbind(0):
            s, v = neurons(x_t, v)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def network(task: Task) -> tuple[nn.Module, Callable[[Tensor], Tensor], list[nn.Module]]:
    """The networks of :mod:`benchmarks.network` as its tutorials 5 and 6 have them: a loop over the steps."""
    fire: list[nn.Module] = []
    beta = networks.EVERY[task.shape].neuron["beta"]

    def leaky(**arguments: bool) -> nn.Module:
        slope = snntorch.surrogate.fast_sigmoid(slope=25)
        fire.append(snntorch.Leaky(beta=beta, spike_grad=slope, init_hidden=True, **arguments))
        return fire[-1]

    if len(task.shape) == 3:
        layers = [nn.Linear(task.shape[2], 1000), leaky(), nn.Linear(1000, 10)]
    else:
        _, _, channels, size, _ = task.shape
        left = (size - 4) // 2 - 4
        layers = [
            *(nn.Conv2d(channels, 12, 5), nn.MaxPool2d(2), leaky()),
            *(nn.Conv2d(12, 64, 5), nn.MaxPool2d(2), leaky()),
            *(nn.Flatten(), nn.Linear(64 * (left // 2) ** 2, 10)),
        ]
    net = nn.Sequential(*layers, leaky(output=True)).to(task.torch_dtype)
    networks.copy_parameters(networks.build(task), net)

    def run(x: Tensor) -> Tensor:
        utils.reset(net)
        spikes = [net(x)[0] for _ in range(task.shape[0])]
        return torch.stack(spikes).mean(0)

    return net, run, fire


def recurrent(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    neurons = snntorch.RLeaky(
        beta=0.5,
        linear_features=len(weight),
        threshold=2.0,
        spike_grad=snntorch.surrogate.atan(alpha=1.0),
        reset_mechanism="zero",
        reset_delay=False,
    ).to(weight)
    with torch.no_grad():
        neurons.recurrent.weight.copy_(weight)
        neurons.recurrent.bias.zero_()

    def run(x: Tensor, w: Tensor) -> Tensor:
        s, v = neurons.init_rleaky()
        spikes = []
        for x_t in x.unbind(0):
            s, v = neurons(x_t, s, v)
            spikes.append(s)
        return torch.stack(spikes)

    return run


def steps(source: nn.Module, frames: Tensor, beta: float) -> Callable[[], Tensor]:
    """Linear layers and ``Leaky`` with the parameters of ``source``, one sample, one step at a time."""
    sizes = [layer for layer in source if isinstance(layer, nn.Linear)]
    net = nn.Sequential()
    for layer in sizes:
        net.append(nn.Linear(layer.in_features, layer.out_features))
        net.append(snntorch.Leaky(beta=beta, init_hidden=True, output=layer is sizes[-1]))
    networks.copy_parameters(source, net)

    def run() -> Tensor:
        utils.reset(net)
        with torch.inference_mode():
            return torch.stack([net(x[None])[0][0] for x in frames])

    return run
