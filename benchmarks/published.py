"""Networks of papers, from a folder with copies of their repositories: theirs, after ``replace`` and ``accelerate``.

The folder holds clones by the names of the table ``NETWORKS``, each at its commit: a model file that is another one is
skipped, as are those that are not there. Spikformer, Spike-driven transformer, QKFormer and SEW-ResNet need
SpikingJelly 0.0.0.0.12 (``pip install --no-deps spikingjelly==0.0.0.0.12``), three also timm. Theirs runs on
SpikingJelly's backend in PyTorch. Times are minima over ``--repeats`` alternating training steps in float32; the peak
is the memory of a step. The largest difference is that of outputs and gradients in float64, relative to the largest
gradient. Ten steps of SGD follow, from equal weights and seeds: the largest relative difference of a loss in float64,
and the first step whose loss is another one in float32, where one spike more changes it: of ``accelerate(net, x)``, of
theirs with the last bit of the first layer's weights changed, and of theirs without oneDNN, whose convolutions sum in
another order.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import memory, report, zoo
from benchmarks.timing import Task

WAYS = ("theirs", "replace", "accelerate(net)", "accelerate(net, x)")
HEADER = (
    *("network", "settings", *WAYS, "theirs / accelerate(net)", "theirs / accelerate(net, x)"),
    *("peak MB, theirs", "peak MB, accelerate(net, x)", "largest difference"),
    *("losses in float64", "another loss at step: ours, bits, without oneDNN"),
)
STEPS = 10
_TRANSFORMER: dict[str, Any] = {
    **{"img_size_h": 32, "img_size_w": 32, "patch_size": 4, "in_channels": 3, "num_classes": 10, "mlp_ratios": 4},
    **{"qkv_bias": False, "norm_layer": partial(nn.LayerNorm, eps=1e-6), "sr_ratios": 1, "T": 4},
}


class PublishedNetwork(NamedTuple):
    """A network of a repository.

    Attributes:
        repository: owner and name on GitHub.
        commit: the version that is measured.
        file: its model file.
        digest: first digits of the SHA-256 of that file.
        make: name of the function, or class, in the file that makes the network.
        arguments: of this call.
        x: shape of the input; a sequence of spikes, batch first, if it has five dimensions.
    """

    repository: str
    commit: str
    file: str
    digest: str
    make: str
    arguments: dict[str, Any]
    x: tuple[int, ...]


NETWORKS = {
    "Spikformer-4-384": PublishedNetwork(
        "ZK-Zhou/spikformer", "6212689", "cifar10/model.py", "84f4169cb3e4f25b", "spikformer",
        {**_TRANSFORMER, "embed_dims": 384, "num_heads": 12, "depths": 4}, (2, 3, 32, 32),
    ),
    "Spike-driven transformer 2-512": PublishedNetwork(
        "BICLab/Spike-Driven-Transformer", "3faa822", "model/spikeformer.py", "54a4a5e3a28df0a9", "sdt",
        {**_TRANSFORMER, "embed_dims": 512, "num_heads": 8, "depths": 2, "pooling_stat": "0011"}, (2, 3, 32, 32),
    ),
    "QKFormer-4-384": PublishedNetwork(
        "zhouchenlin2096/QKFormer", "c2a00e8", "cifar10/model.py", "6cc23e87c7ace953", "QKFormer",
        {**_TRANSFORMER, "embed_dims": 384, "num_heads": 8, "depths": 4}, (2, 3, 32, 32),
    ),
    "SEW-ResNet18": PublishedNetwork(
        "fangwei123456/Spike-Element-Wise-ResNet", "cfc547c", "imagenet/sew_resnet.py", "0859d59d409c30de",
        "sew_resnet18", {"T": 4, "num_classes": 10, "connect_f": "ADD"}, (2, 3, 64, 64),
    ),
    "TET VGGSNN": PublishedNetwork(
        "Gus-Lab/temporal_efficient_training", "f9bde41", "models/VGG_models.py", "506f1704460f599c", "VGGSNN",
        {}, (1, 10, 2, 48, 48),
    ),
}  # fmt: skip


def missing(folder: Path, network: PublishedNetwork) -> str:
    """Return why a network cannot run; empty if it can."""
    repository = folder / network.repository.partition("/")[2]
    path = repository / network.file
    if not path.exists():
        return f"{path} is not there: git clone https://github.com/{network.repository} at {network.commit}"
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(network.digest):
        return f"{path} is not that of commit {network.commit}"
    text = path.read_text()
    for package in ("timm", "spikingjelly"):
        if package in text and importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    if "spikingjelly" in text and importlib.util.find_spec("spikingjelly.clock_driven") is None:
        return "SpikingJelly 0.0.0.0.12 is not installed, but another version"
    return ""


def load(folder: Path, network: PublishedNetwork) -> tuple[nn.Module, Tensor]:
    """Return the network in training mode, on SpikingJelly's backend in PyTorch, and an input."""
    path = folder / network.repository.partition("/")[2] / network.file
    if "spikingjelly" in path.read_text():
        _without_cupy()
    before = set(sys.modules)
    sys.path[:0] = [str(path.parent), str(path.parents[1])]
    try:
        spec = importlib.util.spec_from_file_location(f"published_{path.parent.name}_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[module.__name__] = module  # timm looks it up
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    finally:
        del sys.path[:2]
        # repositories share names, such as module and models
        for name in set(sys.modules) - before:
            if str(path.parents[1]) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    torch.manual_seed(0)
    net: nn.Module = getattr(module, network.make)(**network.arguments)
    for layer in net.modules():
        if getattr(layer, "backend", "") == "cupy":
            layer.backend = "torch"  # type: ignore[assignment]
    x = torch.rand(network.x)
    return net.train(), (x < 0.2).float() if x.dim() == 5 else x


def _without_cupy() -> None:
    """Let SpikingJelly make neurons of its backends in CuPy and C++, which then run in PyTorch."""
    neuron = importlib.import_module("spikingjelly.clock_driven.neuron")
    surrogate = importlib.import_module("spikingjelly.clock_driven.surrogate")
    neuron.check_backend = lambda backend: None
    extension = ModuleType("spikingjelly.cext.neuron")
    extension.MultiStepIFNode = partial(neuron.MultiStepIFNode, surrogate_function=surrogate.ATan())  # type: ignore[attr-defined]
    package = ModuleType("spikingjelly.cext")
    package.neuron = extension  # type: ignore[attr-defined]
    sys.modules |= {"spikingjelly.cext": package, "spikingjelly.cext.neuron": extension}


class _Spikes(nn.Module):
    """The neuron of TET, batch first: four lines by which its file would change."""

    def __init__(self) -> None:
        super().__init__()
        from snnfast.nn import LIF

        self.lif = LIF(decay=0.5, decay_input=False, surrogate="triangle", strict=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(x.transpose(0, 1)).transpose(0, 1)  # type: ignore[no-any-return]


def replaced(net: nn.Module) -> nn.Module:
    """Return a copy with the neurons of this package."""
    from snnfast.nn import replace

    if not any(type(layer).__name__ == "LIFSpike" for layer in net.modules()):
        return replace(net)
    net = copy.deepcopy(net)
    for layer in list(net.modules()):
        for name, child in layer.named_children():
            if type(child).__name__ == "LIFSpike":
                setattr(layer, name, _Spikes())
    return net


def line(name: str, folder: Path, repeats: int, clock: str) -> tuple[str, ...]:
    """Measure a network; return its row of the table."""
    from snnfast.nn import accelerate

    net, x = load(folder, NETWORKS[name])
    ours = replaced(net)
    ways = dict(zip(WAYS, (net, ours, accelerate(ours), accelerate(ours, x))))
    task = Task("published", name, tuple(x.shape), repeats=repeats, clock=clock)
    steps: list[Callable[[], object]] = [partial(step, way, x) for way in ways.values()]
    seconds = dict(zip(ways, zoo.in_turn(steps, task)))
    peaks = [memory.peak(partial(step, ways[way], x)) for way in (WAYS[0], WAYS[-1])]
    return (
        *(name, f"batch {len(x)}, {'x'.join(map(str, x.shape[-2:]))}"),
        *(report.milliseconds(value) for value in seconds.values()),
        *(f"{seconds[WAYS[0]] / seconds[way]:.2f}" for way in WAYS[2:]),
        *(f"{value:.0f}" for value in peaks),
        difference([ways[way] for way in (WAYS[0], WAYS[-1])], x),
        *partings(net, ways[WAYS[-1]], x),
    )


def step(net: nn.Module, x: Tensor) -> Tensor:
    """Train a step; return the output."""
    net.zero_grad()
    begin(net)
    y = net(x.clone())  # SEW-ResNet changes the shape of its input in place
    y = y[0] if isinstance(y, tuple) else y
    y.square().sum().backward()
    return y.detach()  # type: ignore[no-any-return]


def begin(net: nn.Module) -> None:
    """Reset the neurons."""
    for layer in net.modules():
        reset = getattr(layer, "reset", None)
        if callable(reset):
            reset()


def difference(nets: list[nn.Module], x: Tensor) -> str:
    """Return the largest difference of outputs and gradients in float64, or why there is none."""
    for net in nets:
        begin(net)  # deepcopy refuses states with a graph
    copies = [copy.deepcopy(net).double() for net in nets]
    copies[1].load_state_dict(copies[0].state_dict())
    try:
        outputs = [step(net, x.double()) for net in copies]
    except RuntimeError as error:
        return "float32 only" if "should be the same" in str(error) else str(error)
    expected, found = ({n: p.grad for n, p in net.named_parameters() if p.grad is not None} for net in copies)
    scale = max(float(grad.abs().max()) for grad in expected.values())
    values = zip(expected.values(), found.values())
    largest = max(float((a - b).abs().max()) / scale for a, b in values)
    return f"{max(largest, float((outputs[0] - outputs[1]).abs().max())):.0e}"


def partings(theirs: nn.Module, ours: nn.Module, x: Tensor) -> tuple[str, str]:
    """Return how far losses of ten optimizer steps part: in float64, and at which step in float32."""
    weights = theirs.state_dict()

    def trained(net: nn.Module, x: Tensor, weights: dict[str, Any] = weights) -> list[float]:
        begin(net)  # deepcopy refuses states with a graph
        net = copy.deepcopy(net).to(x.dtype)
        net.load_state_dict(weights)
        return losses(net, x)

    bits = copy.deepcopy(weights)
    first = next(iter(bits.values()))
    first.copy_(torch.nextafter(first, torch.full_like(first, torch.inf)))
    expected, found = trained(theirs, x), [trained(ours, x), trained(theirs, x, bits)]
    with torch.backends.mkldnn.flags(enabled=False):  # type: ignore[no-untyped-call]
        found.append(trained(theirs, x))
    try:
        pairs = zip(trained(theirs, x.double()), trained(ours, x.double()), strict=True)
        largest = f"{max(abs(a - b) / abs(a) for a, b in pairs):.0e}"
    except RuntimeError as error:
        if "should be the same" not in str(error):
            raise
        largest = "float32 only"
    return largest, ", ".join(parting(expected, values) for values in found)


def parting(a: list[float], b: list[float]) -> str:
    """Return the first step whose losses differ by more than rounding."""
    return next((str(step) for step, (x, y) in enumerate(zip(a, b, strict=True)) if abs(x - y) > 1e-6 * abs(x)), "none")


def losses(net: nn.Module, x: Tensor) -> list[float]:
    """Train ten steps on ``x`` with seeds of their own; return the losses before each."""
    optimizer, labels, found = torch.optim.SGD(net.parameters(), lr=0.1), torch.arange(len(x)) % 10, []
    for seed in range(STEPS):
        torch.manual_seed(seed)
        begin(net)
        y = net(x.clone())
        y = y[0] if isinstance(y, tuple) else y
        y = y.mean(1) if y.dim() == 3 else y.flatten(1)  # TET's are one a step
        loss = nn.functional.cross_entropy(y, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    begin(net)
    return found
