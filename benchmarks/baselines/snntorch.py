"""snnTorch, with reset to zero in the same step."""

from __future__ import annotations

from collections.abc import Callable

import snntorch
import torch
from snntorch import utils
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import network as networks
from benchmarks.timing import Task

NOTE = "spikes at h > 1 instead of h >= 1"


def lif() -> Callable[[Tensor], Tensor]:
    # Leaky does not scale its input, so membrane, threshold and surrogate are scaled by 2.
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


def long(ours: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network of :mod:`benchmarks.memory`, with a loop over the time steps."""
    layers: list[nn.Module] = []
    for product in (m for m in ours.modules() if isinstance(m, nn.Linear)):
        leaky = snntorch.Leaky(
            beta=0.5,
            spike_grad=snntorch.surrogate.atan(alpha=2.0),
            reset_mechanism="zero",
            reset_delay=False,
            init_hidden=True,
        )
        layers += [nn.Linear(product.in_features, product.out_features), leaky]
    net = nn.Sequential(*layers)
    networks.copy_parameters(ours, net)

    def run(x: Tensor) -> Tensor:
        utils.reset(net)
        return torch.stack([net(x_t) for x_t in x]).mean(0)

    return net, run


def network(task: Task) -> tuple[nn.Module, Callable[[Tensor], Tensor], list[nn.Module]]:
    """The networks of :mod:`benchmarks.network` as in snnTorch's tutorials 5 and 6, with a loop over the time steps."""
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
        remaining = (size - 4) // 2 - 4
        layers = [
            *(nn.Conv2d(channels, 12, 5), nn.MaxPool2d(2), leaky()),
            *(nn.Conv2d(12, 64, 5), nn.MaxPool2d(2), leaky()),
            *(nn.Flatten(), nn.Linear(64 * (remaining // 2) ** 2, 10)),
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


class Layers(nn.Module):
    """Tutorial 5: linear layers with leaky neurons, the image at every step."""

    def __init__(self, steps: int, features: int) -> None:
        super().__init__()
        self.steps = steps
        self.fc1, self.lif1 = nn.Linear(features, 1000), snntorch.Leaky(beta=0.95)
        self.fc2, self.lif2 = nn.Linear(1000, 10), snntorch.Leaky(beta=0.95)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes = []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


class Convolutions(nn.Module):
    """Tutorial 6: convolutions, the image at every step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        slope = snntorch.surrogate.fast_sigmoid(slope=25)
        leaky = {"beta": 0.5, "spike_grad": slope}
        self.conv1, self.lif1 = nn.Conv2d(1, 12, 5), snntorch.Leaky(**leaky)
        self.conv2, self.lif2 = nn.Conv2d(12, 64, 5), snntorch.Leaky(**leaky)
        self.fc1, self.lif3 = nn.Linear(64 * 4 * 4, 10), snntorch.Leaky(**leaky)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spikes = []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(functional.max_pool2d(self.conv1(x), 2), mem1)
            spk2, mem2 = self.lif2(functional.max_pool2d(self.conv2(spk1), 2), mem2)
            spk3, mem3 = self.lif3(self.fc1(spk2.view(x.size(0), -1)), mem3)
            spikes.append(spk3)
        return torch.stack(spikes)


class Sequence(nn.Module):
    """Recurrent, synaptic and leaky neurons on a sequence."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(features, 64), snntorch.RLeaky(beta=0.9, linear_features=64)
        self.fc2, self.lif2 = nn.Linear(64, 32), snntorch.Synaptic(alpha=0.8, beta=0.9)
        self.fc3, self.lif3 = nn.Linear(32, 5), snntorch.Leaky(beta=0.9, learn_beta=True)

    def forward(self, x: Tensor) -> Tensor:
        spk1, mem1 = self.lif1.init_rleaky()
        syn2, mem2 = self.lif2.init_synaptic()
        mem3 = self.lif3.init_leaky()
        spikes = []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), spk1, mem1)
            spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
            spk3, mem3 = self.lif3(self.fc3(spk2), mem3)
            spikes.append(spk3)
        return torch.stack(spikes)


def looping(shape: tuple[int, ...]) -> nn.Module:
    """The networks of :mod:`benchmarks.loops`."""
    torch.manual_seed(0)
    if len(shape) > 3:
        net: nn.Module = Convolutions(shape[0])
    else:
        net = Sequence(shape[2]) if shape[2] == 40 else Layers(shape[0], shape[2])
    with torch.no_grad():  # larger weights, so that neurons fire in every layer
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter *= 2
    return net
