"""SpikingJelly; from version 2.0 it chooses among plain PyTorch, Triton and native CUDA."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import ms_resnet, parametric_lif_net, sew_resnet, spiking_resnet, spiking_vgg
from torch import Tensor, nn

from benchmarks import network as networks
from benchmarks.conversion import PERCENTILE
from benchmarks.stdp import LR_POST, LR_PRE, STEP, TAU
from benchmarks.timing import Task
from benchmarks.zoo import Model

NOTE = ""


def lif(backend: str | None = None) -> Callable[[Tensor], Tensor]:
    chosen = {} if backend is None else {"backend": backend}
    neurons = neuron.LIFNode(
        tau=2.0,
        decay_input=True,
        v_threshold=1.0,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(alpha=2.0),
        step_mode="m",
        **chosen,
    )

    def run(x: Tensor) -> Tensor:
        functional.reset_net(neurons)
        return neurons(x)

    return run


def own_neuron(op: Any) -> Callable[[Tensor], Tensor]:
    """SpikingJelly's ``FlexSN`` of a step function of :func:`snnfast.neuron`; on the CPU a loop over the steps."""
    from benchmarks.baselines.tuned_loop import fire

    def core(*values: Tensor) -> tuple[Tensor, ...]:
        return op.step(fire, *values)  # type: ignore[no-any-return]

    # FlexSN counts the arguments.
    kind = inspect.Parameter.POSITIONAL_ONLY
    names = (*op.inputs, *op.states)
    core.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]
    node = neuron.FlexSN(core, num_states=len(op.states))

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        result = node(x)
        return result if isinstance(result, Tensor) else result[0]

    return run


def stdp() -> dict[str, Callable[[Tensor, Tensor, Tensor], object]]:
    """SpikingJelly's ``STDPLearner``; traces add up and decay by ``1 - 1 / tau``."""
    from spikingjelly.activation_based.learning import STDPLearner

    def learn(w: Tensor, pre: Tensor, post: Tensor) -> None:
        linear, out = nn.Linear(pre.shape[2], post.shape[2], bias=False), nn.Identity()
        linear.weight = nn.Parameter(w.clone())
        learner = STDPLearner("s", linear, out, TAU, TAU, lambda w: LR_PRE, lambda w: LR_POST)
        for s_pre, s_post in zip(pre.to(w.dtype), post.to(w.dtype)):
            # Set the records of its hooks, because running the layers would add their product to the time.
            learner.in_spike_monitor.records.append(s_pre)
            learner.out_spike_monitor.records.append(s_post)
            linear.weight.data.add_(learner.step(on_grad=False)).clamp_(0, 1)
        w.copy_(linear.weight)

    return {STEP: learn}


def conversion(x: Tensor, model: nn.Module, calibration: list[Tensor], steps: int) -> Callable[[], Tensor]:
    """SpikingJelly's ``ann2snn``: thresholds by percentile, soft reset, a loop over steps as in its documentation."""
    from spikingjelly.activation_based import ann2snn

    recipe = ann2snn.RateCodingRecipe(calibration, mode=f"{PERCENTILE}%")
    network = ann2snn.FXConverter(recipe).convert(model).eval()

    @torch.no_grad()
    def run() -> Tensor:
        functional.reset_net(network)
        total = network(x)
        for _ in range(steps - 1):
            total = total + network(x)
        return total / steps

    return run


def network(task: Task) -> tuple[nn.Module, Callable[[Tensor], Tensor], list[nn.Module]]:
    """The networks of :mod:`benchmarks.network` as in SpikingJelly's tutorials: multi-step layers, repeated images."""
    if task.shape not in (*networks.SHAPES, *networks.QUICK_SHAPES):
        return with_its_neurons(task)
    steps, _, channels, size = task.shape[:4]
    fire: list[nn.Module] = []

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        lif = neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m")
        fire.append(lif)
        conv = layer.Conv2d(inputs, outputs, 3, padding=1, bias=False, step_mode="m")
        return [conv, layer.BatchNorm2d(outputs, step_mode="m"), lif]

    if networks.EVERY[task.shape].constant:
        last = neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m")
        pools = [layer.MaxPool2d(2, step_mode="m") for _ in range(2)]
        net = nn.Sequential(
            *block(channels, 32),
            pools[0],
            *block(32, 32),
            pools[1],
            layer.Flatten(step_mode="m"),
            layer.Linear(32 * (size // 4) ** 2, 10, step_mode="m"),
            last,
        )
        fire.append(last)
    else:
        net = nn.Sequential(*block(channels, channels), *block(channels, channels))
    net.to(task.torch_dtype)
    networks.copy_parameters(networks.build(task), net)

    def run(x: Tensor) -> Tensor:
        functional.reset_net(net)
        if networks.EVERY[task.shape].constant:
            return net(x.unsqueeze(0).repeat(steps, 1, 1, 1, 1)).mean(0)
        return x + net(x)

    return net, run, fire


def long(ours: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network of :mod:`benchmarks.memory`, with multi-step layers."""
    layers: list[nn.Module] = []
    for product in (m for m in ours.modules() if isinstance(m, nn.Linear)):
        lif = neuron.LIFNode(decay_input=False, surrogate_function=surrogate.ATan(), step_mode="m")
        layers += [layer.Linear(product.in_features, product.out_features, step_mode="m"), lif]
    net = nn.Sequential(*layers)
    networks.copy_parameters(ours, net)

    def run(x: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(x).mean(0)

    return net, run


def with_its_neurons(task: Task) -> tuple[nn.Module, Callable[[Tensor], Tensor], list[nn.Module]]:
    """The network of :mod:`benchmarks.network` with SpikingJelly's neurons."""
    steps, described = task.shape[0], networks.EVERY[task.shape]
    net = networks.build(task, lambda: neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m"))

    def run(x: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(x.expand(steps, *x.shape) if described.constant else x)

    return net, run, [module for module in net.modules() if isinstance(module, neuron.LIFNode)]


def model(make: Callable[..., nn.Module], batch: int, *image: int, **arguments: Any) -> Model:
    """A model of SpikingJelly for :mod:`benchmarks.zoo`, with an image repeated for 4 steps."""
    net = make(spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(), detach_reset=True, **arguments)
    functional.set_step_mode(net, "m")
    return Model(net, torch.rand(batch, *image).expand(4, batch, *image), reset=functional.reset_net)


def small_vgg(**arguments: Any) -> nn.Module:
    """SpikingJelly's VGG-11 with one small linear layer after the convolutions."""
    net = spiking_vgg.spiking_vgg11_bn(**arguments)
    net.avgpool, net.classifier = layer.AdaptiveAvgPool2d(1), layer.Linear(512, 10)
    return net


ZOO = {
    "CIFAR10Net": partial(model, parametric_lif_net.CIFAR10Net, 32, 3, 32, 32, channels=32),
    "MNISTNet": partial(model, parametric_lif_net.MNISTNet, 64, 1, 28, 28, channels=32),
    "spiking_vgg11_bn": partial(model, spiking_vgg.spiking_vgg11_bn, 16, 3, 64, 64, num_classes=10),
    "sew_resnet18": partial(model, sew_resnet.sew_resnet18, 16, 3, 64, 64, num_classes=10, cnf="ADD"),
    "spiking_resnet18": partial(model, spiking_resnet.spiking_resnet18, 16, 3, 64, 64, num_classes=10),
    **{
        f"{name}, 32 x 32, batch {batch}": partial(model, make, batch, 3, 32, 32, **arguments)
        for name, make, arguments in (
            ("sew_resnet18", sew_resnet.sew_resnet18, {"num_classes": 10, "cnf": "ADD"}),
            ("spiking_vgg11_bn", small_vgg, {}),
        )
        for batch in (8, 32)
    },
    "ms_resnet18": partial(model, ms_resnet.ms_resnet18, 16, 3, 64, 64, num_classes=10, T=4),
}
