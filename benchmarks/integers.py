"""A network trained with integer spikes and its form with binary spikes, beside the ReLU network with the same layers.

The networks are those of :mod:`benchmarks.deploy`: both begin with ReLUs, and train equally long; the last epochs of
the network with integer spikes are with int8 weights.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import deploy
from benchmarks.deploy import Case, DeployedRow, Shipped

MOST = 4  # spikes of a neuron in a step


def integer_network(case: Case) -> nn.Sequential:
    """Build the network with integer spikes, ``[1, B, ...] -> [B, 10]``; it has the keys of the ReLU network."""
    from snnfast.nn import ILIF, Rate

    return deploy.timed((*case.layers(lambda: ILIF(MOST)), Rate()), ILIF, Rate)


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x[None]), y)


def trained(name: str, case: Case, folder: Path, root: Path | None) -> dict[str, nn.Module]:
    """Return the trained networks of a case; those that ``folder`` has are not trained again."""
    from snnfast.nn import quantize

    folder.mkdir(parents=True, exist_ok=True)
    more = -(-case.epochs // 4)
    data = deploy.load(case, case.split, root)

    def train(net: nn.Module, kind: str, loss: deploy.Loss, epochs: int, lr: float) -> None:
        deploy.fit(net, data, loss, epochs, lr, folder / f"{name}-{kind}.pt", augment=case.augment)

    torch.manual_seed(0)
    begun = deploy.relu_network(case)
    train(begun, "begun", deploy.relu_loss, case.begun, case.lr)
    nets: dict[str, Any] = {"relu": copy.deepcopy(begun), "float32": integer_network(case)}
    for values in (nn.Module.parameters, nn.Module.buffers):
        for value, of_relu in zip(values(nets["float32"]), values(begun)):
            value.data.copy_(of_relu)
    train(nets["relu"], "relu", deploy.relu_loss, case.epochs + more, case.lr)
    train(nets["float32"], "integer", loss, case.epochs, 2e-3)
    nets["int8"] = quantize(nets["float32"].eval(), "int8")
    train(nets["int8"], "integer-int8", loss, more, 5e-4)
    for net in nets.values():
        net.eval()
    return nets


def in_pytorch(net: nn.Module, frames: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Run ``net`` on the frames of images."""

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            scores: Tensor = net(frames(x[None]))
        return scores

    return run


def in_c(net: nn.Module, shape: tuple[int, ...], frames: Callable[[Tensor], Tensor], folder: Path) -> tuple[Any, ...]:
    """Run ``net`` as a program on the frames of images; also return the bytes of its weights and memory."""
    program, weights, memory = deploy.in_c(net, shape, 1, folder)
    return lambda x: program(frames(x[None]).transpose(0, 1))[:, -1], weights, memory


def same(x: Tensor) -> Tensor:
    return x


def events(net: nn.Module, x: Tensor) -> tuple[float, float]:
    """Return spikes, and rows of weights that they have added up, a sample; ``x`` ``[S, B, ...]``."""
    from snnfast.nn import SpikeConv2d, SpikeLinear
    from snnfast.nn.spiking import Spiking

    found = [0.0, 0.0]

    def fired(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        found[0] += float(y.sum()) if getattr(layer.neuron, "fires", False) else 0.0

    def read(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        found[1] += float(inputs[0].count_nonzero()) * layer.weight[:, 0].numel()

    hooks = [m.register_forward_hook(fired) for m in net.modules() if isinstance(m, Spiking)]
    hooks += [m.register_forward_hook(read) for m in net.modules() if isinstance(m, (SpikeLinear, SpikeConv2d))]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return found[0] / x.shape[1], found[1] / x.shape[1]


@contextmanager
def shipped(name: str, case: Case, folder: Path, root: Path | None) -> Iterator[dict[str, Shipped]]:
    """Yield the networks of a case in every way to run them."""
    from snnfast.export import expand, integer
    from snnfast.nn import fuse

    nets = trained(name, case, folder, root)
    images, samples = (deploy.load(case, split, root)[0][:500] for split in (case.split, "test"))
    relu = deploy.folded(nets["relu"])
    number = sum(p.numel() for p in relu.parameters())
    read = deploy.bytes_read(relu, samples, 1, len(samples))
    ways = {"ReLU, PyTorch": Shipped(deploy.in_pytorch(relu, 0), 4 * number, 4 * read)}
    print(f"{name}: ReLU: {read:.0f} products a sample")
    with tempfile.TemporaryDirectory() as directory:
        if find_spec("onnxruntime") is not None:
            run = deploy.in_onnxruntime(relu, case, Path(directory) / "relu", None)
            ways["ReLU, ONNX Runtime float32"] = Shipped(run, 4 * number, 4 * read)
            run = deploy.in_onnxruntime(relu, case, Path(directory) / "relu-int8", images)
            ways["ReLU, ONNX Runtime int8"] = Shipped(run, number, read)
        for bits, size in (("float32", 4), ("int8", 1)):
            numbers = fuse(nets[bits]) if bits == "float32" else nets[bits]
            for form, net in (("integer spikes", numbers), ("binary spikes", expand(numbers, case.shape, single=True))):
                frames: Any = getattr(net, "frames", same)
                spikes, rows = events(net, frames(samples[None]))
                print(f"{name}: {form}, {bits}: {spikes:.0f} spikes, {rows:.0f} additions of weights a sample")
                is_whole = bits == "int8"
                if is_whole:
                    net = integer(net, case.shape, unit=1 / 127)
                ways[f"{form}, PyTorch {bits}"] = way = Shipped(
                    in_pytorch(net, frames), size * number, size * rows, bits=is_whole
                )
                run, weights, memory = in_c(net, case.shape, frames, Path(directory) / f"{form[:6]}-{bits}")
                ways[f"{form}, C {bits}"] = way._replace(run=run, weights=weights, memory=memory)
        yield ways


def rows_of(name: str, folder: Path, root: Path | None, rounds: int, epochs: int | None) -> list[DeployedRow]:
    """Return the rows of a case, whose name is one of :mod:`benchmarks.deploy` behind ``"integer-"``."""
    case = deploy.CASES[name.removeprefix("integer-")]
    if case.layers in (deploy.conv, deploy.vgg):  # expand takes max pooling behind neurons alone
        case = case._replace(layers=partial(case.layers, pool_first=False))
    case = case if epochs is None else case._replace(begun=epochs, epochs=epochs)
    with shipped(name, case, folder, root) as ways:
        return list(deploy.rows(name, ways, *deploy.load(case, "test", root), rounds))
