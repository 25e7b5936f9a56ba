"""Training steps of whole networks, in snnfast, in the library they come from, and with ReLU in place of neurons.

All have the same weights and fire the same spikes. A network is named by its input, ``T x B x ...``. Images are the
same at every step, except for the ResNet block, whose inputs are the spikes of earlier layers.

``fused`` is the network after :func:`snnfast.nn.fuse`, for evaluation, with statistics of the batch.
``ported`` is the peer's network after :func:`snnfast.nn.replace` and :func:`snnfast.nn.accelerate`.
``relu`` is the same network with ReLU on T x B images, ``relu_once`` on B images, as a network without time runs;
``products`` has no neurons. The fact "peak MB" is the largest growth of the process during a step.
"""

from __future__ import annotations

import functools
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import neurons, report
from benchmarks.timing import Prepared, Task

FLOOR = "relu"
ONCE = "relu_once"
PRODUCTS = "products"
FUSED = "fused"
PORTED = "ported"
BASELINES = (ONCE, FUSED, PORTED, "spikingjelly", "snntorch")
STEP = "training step"
EVALUATION = "evaluation"
PER_RELU = 1.1  # largest time of a convolutional network relative to ReLU

Layers = Callable[[Callable[[], nn.Module]], nn.Module]


class Network(NamedTuple):
    """A network and its limits.

    Attributes:
        name: its name in the documentation.
        layers: builds it for ``[T, B, ...]``, from a function that makes neurons.
        neuron: arguments of :func:`snnfast.nn.like`.
        constant: whether the images are the same at every step.
        peer: the library that it comes from.
        limit: smallest speed-up over the peer.
        beside_relu: whether it is compared with ReLU, too.
    """

    name: str
    layers: Layers
    neuron: dict[str, Any]
    constant: bool
    peer: str
    limit: float
    beside_relu: bool


class Residual(nn.Module):
    """``x + f(x)``: spikes added to spikes, as SEW ResNet does; or ``shortcut(x)`` instead of ``x``."""

    def __init__(self, f: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.f = f
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.f(x)


def normalized(neuron: Callable[[], nn.Module], channels: int, size: int) -> nn.Module:
    from snnfast.nn import Rate, SpikeConv2d, SpikeLinear, Time

    def block(inputs: int) -> list[nn.Module]:
        conv = SpikeConv2d(inputs, 32, 3, padding=1, bias=False)
        return [Time(conv, nn.BatchNorm2d(32)), neuron(), Time(nn.MaxPool2d(2))]

    classes = Time(nn.Flatten(), SpikeLinear(32 * (size // 4) ** 2, 10))
    return nn.Sequential(*block(channels), *block(32), classes, neuron(), Rate())


def tutorial(neuron: Callable[[], nn.Module], channels: int, size: int) -> nn.Module:
    from snnfast.nn import Rate, SpikeConv2d, SpikeLinear, Time

    left = (size - 4) // 2 - 4
    return nn.Sequential(
        Time(SpikeConv2d(channels, 12, 5), nn.MaxPool2d(2)),
        neuron(),
        Time(SpikeConv2d(12, 64, 5), nn.MaxPool2d(2)),
        neuron(),
        Time(nn.Flatten(), SpikeLinear(64 * (left // 2) ** 2, 10)),
        neuron(),
        Rate(),
    )


def residual(neuron: Callable[[], nn.Module], channels: int, size: int) -> nn.Module:
    from snnfast.nn import SpikeConv2d, Time

    def half() -> list[nn.Module]:
        conv = SpikeConv2d(channels, channels, 3, padding=1, bias=False)
        return [Time(conv, nn.BatchNorm2d(channels)), neuron()]

    return Residual(nn.Sequential(*half(), *half()))


def linear(neuron: Callable[[], nn.Module], features: int, hidden: int = 1000) -> nn.Module:
    from snnfast.nn import Rate, SpikeLinear, Time

    first, second = Time(nn.Linear(features, hidden)), Time(SpikeLinear(hidden, 10))
    return nn.Sequential(first, neuron(), second, neuron(), Rate())


def resnet(neuron: Callable[[], nn.Module], channels: int, size: int) -> nn.Module:
    """SEW ResNet-18 for small images: a convolution and eight blocks, the last at an eighth of the size."""
    from snnfast.nn import Rate, Time

    first = Time(nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64))
    return nn.Sequential(first, neuron(), *sew_blocks(neuron), Rate())


def sew_blocks(neuron: Callable[[], nn.Module]) -> list[nn.Module]:
    """The eight blocks of SEW ResNet-18 and its classifier."""
    from snnfast.nn import SpikeConv2d, Time

    def conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        product = SpikeConv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return [Time(product, nn.BatchNorm2d(outputs)), neuron()]

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        f = nn.Sequential(*conv(inputs, outputs, stride), *conv(outputs, outputs, 1))
        if inputs == outputs:
            return Residual(f)
        shortcut = SpikeConv2d(inputs, outputs, 1, stride, bias=False)
        return Residual(f, nn.Sequential(Time(shortcut, nn.BatchNorm2d(outputs)), neuron()))

    blocks = [block(min(c, w), w, s) for c, w, s in zip(*RESNET)]
    return [*blocks, Time(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))]


def sew_resnet18(neuron: Callable[[], nn.Module]) -> nn.Module:
    """SpikingJelly's ``sew_resnet18``, ``[T, B, 3, H, W]`` to ``[T, B, 10]``."""
    from snnfast.nn import SpikeConv2d, Time

    first = Time(SpikeConv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64))
    return nn.Sequential(first, neuron(), Time(nn.MaxPool2d(3, 2, 1)), *sew_blocks(neuron))


def vgg11(neuron: Callable[[], nn.Module]) -> nn.Module:
    """SpikingJelly's ``spiking_vgg11_bn`` with one linear layer behind the convolutions."""
    from snnfast.nn import SpikeConv2d, Time

    layers: list[nn.Module] = []
    inputs = 3
    for outputs, pools in zip((64, 128, 256, 256, 512, 512, 512, 512), (1, 1, 0, 1, 0, 1, 0, 1)):
        layers += [Time(SpikeConv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)), neuron()]
        layers += [Time(nn.MaxPool2d(2))] if pools else []
        inputs = outputs
    return nn.Sequential(*layers, Time(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)))


# Input channels, output channels and strides of the blocks.
RESNET = ((64, 64, 64, 128, 128, 256, 256, 512), (64, 64, 128, 128, 256, 256, 512, 512), (1, 1, 2, 1, 2, 1, 2, 1))


def square(neuron: Callable[[], nn.Module], features: int) -> nn.Module:
    from snnfast.nn import Time

    product = nn.Linear(features, features)
    with torch.no_grad():
        product.weight *= 3  # a fifth of the inputs fires
    return nn.Sequential(Time(product), neuron())


JELLY = {"name": "spikingjelly.LIFNode", "surrogate": "atan"}
TORCH = {"name": "snntorch.Leaky", "beta": 0.5}
NETWORKS = {
    (4, 128, 1, 28, 28): Network(
        "conv 32-32, batch norm, max pooling", normalized, JELLY, True, "spikingjelly", 3.0, True
    ),
    (50, 64, 1, 28, 28): Network("12C5-MP2-64C5-MP2-10", tutorial, TORCH, True, "snntorch", 1.5, True),
    (4, 32, 64, 16, 16): Network("SEW ResNet block", residual, JELLY, False, "spikingjelly", 1.6, True),
    (25, 128, 784): Network("784-1000-10", linear, TORCH | {"beta": 0.95}, True, "snntorch", 10.0, False),
}
# One image or sample alone.
ALONE = {(shape[0], 1, *shape[2:]): network for shape, network in NETWORKS.items()}
SHAPES = (*NETWORKS, *ALONE)
# Small inputs of the networks above, in their order.
QUICK_SHAPES = ((2, 3, 1, 8, 8), (3, 2, 1, 16, 16), (2, 3, 4, 4, 4), (3, 2, 6))
# Networks that fill a GPU.
SQUARE = Network("Linear + LIF", square, JELLY, False, "spikingjelly", 1.0, True)
LARGE = {
    (4, 112, 3, 32, 32): Network("SEW ResNet-18", resnet, JELLY, True, "spikingjelly", 1.0, True),
    (500, 16, 4096): SQUARE,
    (500, 16, 16384): SQUARE,
}
QUICK_LARGE = ((2, 2, 3, 8, 8), (4, 2, 9), (4, 2, 11))
EVERY = {
    **NETWORKS,
    **ALONE,
    **dict(zip(QUICK_SHAPES, NETWORKS.values())),
    **LARGE,
    **dict(zip(QUICK_LARGE, LARGE.values())),
}


def neuron_of(network: Network) -> nn.Module:
    from snnfast import surrogate
    from snnfast.nn import like

    arguments = dict(network.neuron)
    if network.peer == "snntorch":
        arguments["surrogate"] = surrogate.fast_sigmoid(25.0)
    return like(arguments.pop("name"), **arguments)


def inputs(network: Network, shape: tuple[int, ...]) -> Tensor:
    """Return images of one step if they are constant, else spikes of all steps."""
    generator = torch.Generator().manual_seed(0)
    size = shape[1:] if network.constant else shape
    x = torch.rand(size, generator=generator)
    return x if network.constant else (x < 0.2).float()


def build(task: Task, neuron: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Build the network with the neurons of the implementation; parameters are the same for all implementations."""
    network = EVERY[task.shape]
    torch.manual_seed(0)
    instead: dict[str, Callable[[], nn.Module]] = {PRODUCTS: nn.Identity}
    instead |= dict.fromkeys((FLOOR, ONCE), nn.ReLU)
    make = neuron or instead.get(task.implementation) or functools.partial(neuron_of, network)
    net = network.layers(make, *task.shape[2:4]).to(task.device, task.torch_dtype)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # running statistics equal those of the last batch
    with torch.no_grad():  # so that neurons fire in every layer
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter *= 2
    return net


def ours(task: Task) -> tuple[nn.Module, Callable[[Tensor], Tensor], list[nn.Module]]:
    """Return the network, a function that runs it on :func:`inputs`, and its neurons."""
    from snnfast.nn.spiking import Spiking

    net = build(task)
    fire = [module for module in net.modules() if isinstance(module, Spiking)]
    return net, functools.partial(over_time, task, net), fire


def theirs(task: Task) -> tuple[nn.Module, Callable[[Tensor], Tensor], list[nn.Module]]:
    """Return the same for the network of the peer."""
    return neurons.baseline(EVERY[task.shape].peer).network(task)  # type: ignore[no-any-return]


def ported(task: Task) -> tuple[nn.Module, Callable[[Tensor], Tensor], list[nn.Module]]:
    """Return the same for the network of the peer after ``replace`` and ``accelerate``."""
    from snnfast.nn import accelerate, replace, reset
    from snnfast.ports.port import Replaced

    network = EVERY[task.shape]
    net = accelerate(replace(theirs(task)[0], sequences=network.peer == "snntorch"))

    def run(x: Tensor) -> Tensor:
        reset(net)
        if network.constant:
            x = x.expand(task.shape[0], *x.shape)
        if network.peer == "spikingjelly":
            x = x.contiguous()  # its tutorials repeat images
        spikes = net(x)
        spikes = spikes[0] if isinstance(spikes, tuple) else spikes
        return spikes.mean(0) if network.constant else x + spikes

    return net, run, [module for module in net.modules() if isinstance(module, Replaced)]


def over_time(task: Task, net: nn.Module, x: Tensor) -> Tensor:
    """Return the output of the network for ``x``, made by :func:`inputs`."""
    once = task.implementation == ONCE
    if not EVERY[task.shape].constant:
        return net(x[:1] if once else x)
    if once:
        return net(x[None])
    x = x.expand(task.shape[0], *x.shape)
    return net(x.contiguous() if task.implementation in (FLOOR, PRODUCTS) else x)


def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters in their order; peers have the same layers under other names."""
    with torch.no_grad():
        for a, b in zip(source.parameters(), target.parameters(), strict=True):
            b.copy_(a)


def fired(fire: list[nn.Module], run: Callable[[], object]) -> float:
    """Return the share of neurons that fire in a step, over all layers."""
    counts = []

    def hook(module: nn.Module, args: object, spikes: Any) -> None:
        spikes = spikes[0] if isinstance(spikes, tuple) else spikes
        counts.append((spikes.detach().double().sum().item(), spikes.numel()))

    handles = [module.register_forward_hook(hook) for module in fire]
    run()
    for handle in handles:
        handle.remove()
    return sum(n for n, _ in counts) / sum(n for _, n in counts) if counts else 0.0


def resident() -> float:
    """Return the resident memory of the process in MB; NaN if the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return float("nan")
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6


def most_resident() -> float:
    """Return the largest resident memory of the process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def prepare(task: Task) -> Prepared:
    network = EVERY[task.shape]
    if task.implementation == FUSED:
        return fused(task)
    if task.implementation in (neurons.OURS, FLOOR, ONCE, PRODUCTS):
        net, run, fire = ours(task)
    elif task.implementation == network.peer:
        net, run, fire = theirs(task)
    elif task.implementation == PORTED:
        net, run, fire = ported(task)
    else:
        raise neurons.Skip(f"the network comes from {network.peer}")
    x = inputs(network, task.shape).to(task.device, task.torch_dtype)
    target = torch.randint(10, (task.shape[1],), generator=torch.Generator().manual_seed(1))
    target = target.to(task.device)
    grad = torch.randn(task.shape, generator=torch.Generator().manual_seed(2)).to(x)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)  # all steps are the same
    if not network.constant:
        x.requires_grad_()  # as if layers preceded it

    def step() -> Tensor:
        optimizer.zero_grad()
        x.grad = None
        y = run(x)
        loss = functional.cross_entropy(y, target) if network.constant else (y * grad[: len(y)]).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    before = resident()
    loss = step().item()
    peak = most_resident() - before
    facts = {"peak MB": peak} if task.shape in NETWORKS else {}
    if task.implementation not in (FLOOR, ONCE, PRODUCTS):
        facts |= {"first loss": loss, "spikes a step": fired(fire, lambda: run(x))}
    passes = {STEP: step}
    if task.implementation in (neurons.OURS, FLOOR, ONCE):
        passes[EVALUATION] = functools.partial(evaluate, net, run, x)
    return Prepared(passes, facts)


def evaluate(net: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    net.eval()
    with torch.no_grad():
        y = run(x)
    net.train()
    return y


def fused(task: Task) -> Prepared:
    from snnfast.nn import fuse

    net, run, _ = ours(task)
    if not any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        raise neurons.Skip("the network has no batch normalisation")
    x = inputs(EVERY[task.shape], task.shape).to(task.device, task.torch_dtype)
    with torch.no_grad():
        run(x)
    net = fuse(net)
    run = functools.partial(over_time, task, net)
    return Prepared({EVALUATION: functools.partial(evaluate, net, run, x)}, {})


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the ratios with their limits, for one thread."""
    rows = [row for row in rows if (row.task.threads, row.name) == (1, STEP)]
    found = []
    for shape, network in NETWORKS.items():
        mine = {row.task.implementation: row for row in rows if row.task.shape == shape}
        if neurons.OURS not in mine:
            continue
        judge = functools.partial(report.verdict, shape, network.name)
        peer = mine.get(network.peer)
        ratio = peer.per_ours if peer else None
        found.append(judge(f"{network.peer} / snnfast", ratio, ">=", network.limit))
        if network.beside_relu:
            found.append(judge("snnfast / relu", mine[neurons.OURS].floors, "<=", PER_RELU))
    return found
