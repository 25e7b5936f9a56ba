"""A spiking network beside the ReLU network with the same layers, as each would be shipped to one core of a processor.

Both are trained here, the spiking one for few steps and spikes, then with int8 weights. The image of a sample is the
same at every step, and its product is computed once. On streams (QTDB) a recurrent spiking network stands beside a GRU.
Programs in C run in this process, through ctypes.
"""

from __future__ import annotations

import copy
import ctypes
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import compact, machine

BATCH = 128
PENALTY = 5.0
SAME = nn.Identity()


class Case(NamedTuple):
    """A data set and the layers of its networks.

    Attributes:
        data: name of the data set.
        shape: shape of a sample.
        steps: time steps of the spiking network.
        begun: epochs of the ReLU network that initialises the others.
        epochs: further epochs of each network; then a quarter of them in few bits, or again with ReLUs.
        layers: ``layers(fire)`` returns the layers of a network; ``fire()`` makes the activation after a product.
        narrow: widths of further ReLU networks, so that one is about as accurate as the spiking network.
        lr: largest learning rate of the ReLU networks.
        split: part of the data set that trains; the rest is for settings.
        augment: changes images before each training step.
        rate: spikes a neuron and step, at most.
    """

    data: str
    shape: tuple[int, ...]
    steps: int
    begun: int
    epochs: int
    layers: Callable[..., list[nn.Module]]
    narrow: tuple[int, ...] = ()
    lr: float = 1e-3
    split: str = "train+val"
    augment: Callable[[Tensor], Tensor] = SAME
    rate: float = 0.05


def moved(x: Tensor) -> Tensor:
    """Flip half of the images, and shift each by up to 3 pixels."""
    from snnfast_zoo.train.images import crop, flip

    return crop(flip(x), 3)


def _images(fire: Callable[[], nn.Module], width: int) -> list[nn.Module]:
    return [
        *(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), fire(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), fire(), nn.MaxPool2d(2), nn.Flatten()),
    ]


def _digits(fire: Callable[[], nn.Module], width: int = 16) -> list[nn.Module]:
    return [*_images(fire, width), nn.Linear(8 * width, 10)]


def conv(fire: Callable[[], nn.Module], width: int = 16, pool_first: bool = True) -> list[nn.Module]:
    images = _images(fire, width)
    if pool_first:  # before the activation: a quarter of the neurons; with ReLUs it is the same network
        images = [images[k] for k in (0, 1, 3, 2, 4, 5, 7, 6, 8)]
    return [*images, nn.Linear(98 * width, 8 * width), fire(), nn.Linear(8 * width, 10)]


def _wide(fire: Callable[[], nn.Module]) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(784, 1200), fire(), nn.Linear(1200, 1200), fire(), nn.Linear(1200, 10)]


def vgg(fire: Callable[[], nn.Module], width: int = 32, pool_first: bool = True) -> list[nn.Module]:
    # Pooling before the activation: fewer neurons, and fewer spikes than a maximum of spikes has.
    layers: list[nn.Module] = []
    sizes = (3, width, 2 * width, 4 * width, 4 * width)
    for before, after, pool in zip(sizes, sizes[1:], (True, True, False, True)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        layers += [nn.MaxPool2d(2), fire()] if pool and pool_first else [fire()]
        layers += [nn.MaxPool2d(2)] if pool and not pool_first else []
    return [*layers, nn.Flatten(), nn.Linear(64 * width, 10)]


CASES = {
    "digits": Case("digits", (1, 8, 8), 4, 60, 60, _digits, lr=3e-3),
    "mnist-1200": Case("MNIST", (1, 28, 28), 3, 2, 2, _wide),
    "mnist-conv": Case("MNIST", (1, 28, 28), 3, 2, 2, conv, narrow=(6,), rate=0.1),
    "cifar10": Case("folder", (3, 32, 32), 2, 4, 7, vgg, (8, 6), 3e-3, "train", moved),
}


def relu_network(case: Case, **width: int) -> nn.Sequential:
    """Build the network with ReLUs, ``[B, ...] -> [B, 10]``."""
    return nn.Sequential(*case.layers(nn.ReLU, **width))


def timed(layers: Iterable[nn.Module], *neurons: type[nn.Module]) -> nn.Sequential:
    """Return a network over steps: products that skip zeros, in ``Time``, and between them ``neurons``."""
    from snnfast.nn import SpikeConv2d, SpikeLinear, Time

    net = nn.Sequential()
    folded: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, neurons):
            net.extend([Time(*folded), layer])
            folded = []
        elif isinstance(layer, nn.Linear):
            folded.append(SpikeLinear(layer.in_features, layer.out_features))
        elif isinstance(layer, nn.Conv2d):
            folded.append(SpikeConv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding))
        else:
            folded.append(layer)
    return net


def spiking_network(case: Case) -> nn.Sequential:
    """Build the spiking network, ``[T, B, ...] -> [B, 10]``; it returns the output membranes of the last step."""
    from snnfast.nn import LI, LIF, Last

    layers = (*case.layers(lambda: LIF(tau=2.0, decay_input=False)), LI(tau=4.0, decay_input=False))
    return timed(layers, LIF, LI).append(Last())


def spike_rates(net: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs, and the mean spike rate of each layer."""
    from snnfast.nn import LIF

    rates = []
    for layer in net:
        x = layer(x)
        if isinstance(layer, LIF):
            rates.append(x.mean())
    return x, torch.stack(rates)


def load(case: Case, split: str, root: Path | None) -> tuple[Tensor, Tensor]:
    from snnfast import data

    if case.data != "folder":
        return data.as_tensors(data.load(case.data, None if case.data == "digits" else root, split))
    images, labels = data.as_tensors(data.load("folder", (root or Path()) / "cifar10", split))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))  # they lie there by class
    return images[order], labels[order]


Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def relu_loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x.contiguous(memory_format=torch.channels_last)), y)  # faster convolutions


def spiking_loss(case: Case) -> Loss:
    """Return the cross-entropy with a penalty on the rates."""

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        outputs, rates = spike_rates(net, x.expand(case.steps, *x.shape))
        return cross_entropy(outputs, y) + PENALTY * (rates - 0.8 * case.rate).relu().sum()

    return loss


def fit(
    net: nn.Module, data: tuple[Tensor, Tensor], loss: Loss, epochs: int, lr: float, checkpoint: Path,
    batch: int = BATCH, clip: float = math.inf, augment: Callable[[Tensor], Tensor] = SAME,
) -> None:  # fmt: skip
    """Train ``net``; save the state of training in ``checkpoint`` after every epoch, and resume from it."""
    samples, labels = data
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * -(-len(samples) // batch))
    parts = {"net": net, "optimizer": optimizer, "schedule": schedule}
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        done = saved.pop("done")
        for name, state in saved.items():
            parts[name].load_state_dict(state)
    for epoch in range(done, epochs):
        torch.manual_seed(epoch)
        net.train()
        total = 0.0
        for chosen in torch.randperm(len(samples)).split(batch):
            value = loss(net, augment(samples[chosen]), labels[chosen])
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            schedule.step()
            total += value.item() * len(chosen) / len(samples)
        torch.save({"done": epoch + 1} | {name: part.state_dict() for name, part in parts.items()}, checkpoint)
        print(f"{checkpoint.stem}: epoch {epoch + 1} of {epochs}, loss {total:.4f}", flush=True)


def trained(name: str, case: Case, folder: Path, root: Path | None) -> dict[str, nn.Module]:
    """Return the trained networks of a case; those that ``folder`` has are not trained again."""
    from snnfast.nn import quantize

    folder.mkdir(parents=True, exist_ok=True)
    more = -(-case.epochs // 4)
    data, spiking = load(case, case.split, root), spiking_loss(case)

    def train(net: nn.Module, kind: str, loss: Loss, epochs: int, lr: float) -> None:
        fit(net, data, loss, epochs, lr, folder / f"{name}-{kind}.pt", augment=case.augment)

    torch.manual_seed(0)
    begun = relu_network(case)
    train(begun, "begun", relu_loss, case.begun, case.lr)
    # All start from it and train equally long: ReLUs for the epochs of spikes and of few bits together.
    nets: dict[str, Any] = {"relu": copy.deepcopy(begun), "float32": spiking_network(case)}
    for values in (nn.Module.parameters, nn.Module.buffers):
        for value, of_relu in zip(values(nets["float32"]), values(begun)):
            value.data.copy_(of_relu)
    train(nets["float32"], "float32", spiking, case.epochs, 2e-3)
    for weights in ("int8", "int4"):
        nets[weights] = quantize(nets["float32"].eval(), weights)
        train(nets[weights], weights, spiking, more, 5e-4)
    for width in case.narrow:
        torch.manual_seed(0)
        nets[f"narrow-{width}"] = relu_network(case, width=width)
        train(nets[f"narrow-{width}"], f"narrow-{width}", relu_loss, case.begun + case.epochs + more, case.lr)
    train(nets["relu"], "relu", relu_loss, case.epochs + more, case.lr)
    for net in nets.values():
        net.eval()
    return nets


# ---- ways to run a network


class Shipped(NamedTuple):
    """A way to run a network.

    Attributes:
        run: images ``[B, ...]`` -> outputs ``[B, 10]``.
        weights: bytes of all weights.
        read: bytes of weights that products, or sums, of a sample read; for spiking networks, a mean over samples.
        memory: bytes of states and values between layers, if they are static.
        bits: whether images are int8.
    """

    run: Callable[[Tensor], Tensor]
    weights: int
    read: float
    memory: int = 0
    bits: bool = False


def as_integers(x: Tensor) -> Tensor:
    """Convert images in [0, 1] to int8."""
    return (127 * x).round().to(torch.int8)


def in_pytorch(net: nn.Module, steps: int) -> Callable[[Tensor], Tensor]:
    """Run ``net`` on images; expand them over ``steps`` unless it is 0."""

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(x.expand(steps, *x.shape) if steps else x)

    return run


RUN = """
#include "snn.h"
void run(const snn_input *x, snn_output *y, int samples, int frames, int repeats) {
  for (int b = 0; b < samples; b++) {
    snn_reset();
    for (int t = 0; t < frames; t++, x += SNN_INPUTS, y += SNN_OUTPUTS)
      for (int r = 0; r < repeats; r++) snn_step(r ? 0 : x, y);
  }
}
"""


def in_c(
    net: nn.Module, shape: tuple[int, ...], steps: int, folder: Path
) -> tuple[Callable[[Tensor], Tensor], int, int]:
    """Compile ``net`` to a program: ``[B, *shape]`` with ``steps`` steps each, or streams ``[B, T, *shape]``.

    Returns:
        the program, the bytes of its weights, and those of its memory.
    """
    import snnfast

    report = snnfast.export_c(net, folder, shape)
    (folder / "run.c").write_text(RUN)
    options = ["-std=c99", "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", "-o", "snn.so"]
    subprocess.run(["cc", *options, "snn.c", "run.c"], cwd=folder, check=True)
    program = ctypes.CDLL(str(folder / "snn.so")).run
    program.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int] * 3
    integers = any(layer.kind in ("IntegerLIF", "IntegerILIF", "IntegerRecurrent") for layer in report.layers)

    def run(x: Tensor) -> Tensor:
        x = x.contiguous()
        frames = x.shape[1 : x.dim() - len(shape)]
        y = torch.empty(len(x), *frames, *report.layers[-1].shape, dtype=torch.int32 if integers else torch.float32)
        program(x.data_ptr(), y.data_ptr(), len(x), *(frames or (1,)), steps)
        return y

    return run, sum(layer.weights for layer in report.layers), sum(layer.memory for layer in report.layers)


def in_onnxruntime(net: nn.Module, case: Case, folder: Path, images: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Run ``net`` in ONNX Runtime; in int8 if there are ``images`` to calibrate activations with."""
    import onnxruntime
    from onnxruntime import quantization as q

    folder.mkdir()
    path = folder / "net.onnx"
    x = torch.zeros(2, *case.shape)
    torch.onnx.export(net, (x,), str(path), dynamo=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False)
    if images is not None:
        name = onnxruntime.InferenceSession(str(path)).get_inputs()[0].name

        class Reader(q.CalibrationDataReader):
            batches = iter(images.split(50))

            def get_next(self) -> Any:
                x = next(self.batches, None)
                return None if x is None else {name: x.numpy()}

        ready, path = folder / "ready.onnx", folder / "int8.onnx"
        q.quant_pre_process(str(folder / "net.onnx"), str(ready))
        # Without VNNI, sums of two products of 8 bits need a spare bit.
        q.quantize_static(str(ready), str(path), Reader(), per_channel=True, reduce_range=True)
    return session(path)


def opened(path: Path) -> Any:
    """Open an ONNX file in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def session(path: Path) -> Callable[[Tensor], Tensor]:
    """Return an ONNX model with one input and one output as a function."""
    model = opened(path)
    name = model.get_inputs()[0].name
    return lambda x: torch.from_numpy(model.run(None, {name: x.numpy()})[0])


def bytes_read(net: nn.Module, x: Tensor, size: int, batch: int) -> float:
    """Return the bytes of weights read a sample: those of every input; in spiking layers, of inputs that are not 0."""
    from snnfast.nn import SpikeConv2d, SpikeLinear

    read: list[float] = []

    def count(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        spiking = isinstance(layer, (SpikeLinear, SpikeConv2d))
        events = int(inputs[0].count_nonzero()) if spiking else inputs[0].numel()
        read.append(events * layer.weight[:, 0].numel() * size)

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    if x.stride(0) == 0:
        read[0] /= len(x)  # hooked layers see all steps
    return sum(read) / batch


def folded(net: nn.Module) -> nn.Module:
    """Fold the batch normalisation of ``net``, if it has any."""
    from snnfast.nn import fuse

    norms = any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())
    return fuse(net.eval()) if norms else net.eval()


@contextmanager
def shipped(name: str, case: Case, folder: Path, root: Path | None) -> Iterator[dict[str, Shipped]]:
    """Yield the networks of a case in every way to run them."""
    from snnfast.export import integer
    from snnfast.nn import SpikeLinear

    nets = trained(name, case, folder, root)
    images = load(case, case.split, root)[0][:500]
    samples = load(case, "test", root)[0][:200]
    steps = case.steps
    number = sum(p.numel() for p in folded(nets["relu"]).parameters())
    ways: dict[str, Shipped] = {}
    with tempfile.TemporaryDirectory() as directory:
        places = [Path(directory) / kind for kind in ("float32", "int8", "int4")]
        titles = {"relu": "ReLU"} | {f"narrow-{width}": f"ReLU, width {width}" for width in case.narrow}
        for kind, title in titles.items():
            relu = folded(nets[kind])
            count, read = sum(p.numel() for p in relu.parameters()), bytes_read(relu, samples, 1, len(samples))
            ways[f"{title}, PyTorch"] = Shipped(in_pytorch(relu, 0), 4 * count, 4 * read)
            if find_spec("onnxruntime") is not None:
                run = in_onnxruntime(relu, case, Path(directory) / kind, None)
                ways[f"{title}, ONNX Runtime float32"] = Shipped(run, 4 * count, 4 * read)
                run = in_onnxruntime(relu, case, Path(directory) / f"{kind}-int8", images)
                ways[f"{title}, ONNX Runtime int8"] = Shipped(run, count, read)
        spiking = folded(nets["float32"])
        for layer in spiking.modules():
            if isinstance(
                layer, SpikeLinear
            ):  # weights of an input are contiguous, so that a batch of 1 is computed by events, too
                layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
        read = bytes_read(spiking, samples.expand(steps, *samples.shape), 4, len(samples))
        ways["spiking, PyTorch float32"] = Shipped(in_pytorch(spiking, steps), 4 * number, read)
        run, weights, memory = in_c(spiking, case.shape, steps, places[0])
        ways["spiking, C float32"] = Shipped(run, weights, read, memory)
        for place, bits in zip(places[1:], ("int8", "int4")):
            net = integer(nets[bits], case.shape, unit=1 / 127)
            few = as_integers(samples)
            read = bytes_read(net, few.expand(steps, *few.shape), 1, len(few)) / (2 if bits == "int4" else 1)
            if bits == "int8":
                ways[f"spiking, PyTorch {bits}"] = Shipped(in_pytorch(net, steps), number, read, bits=True)
            run, weights, memory = in_c(net, case.shape, steps, place)
            ways[f"spiking, C {bits}"] = Shipped(run, weights, read, memory, bits=True)
        yield ways


def accuracy(way: Shipped, images: Tensor, labels: Tensor) -> float:
    """Return the accuracy in %; labels below 0 do not count."""
    images = as_integers(images) if way.bits else images
    right = sum(int((way.run(x).argmax(-1) == y).sum()) for x, y in zip(images.split(500), labels.split(500)))
    return 100 * right / int((labels >= 0).sum())


def milliseconds(ways: dict[str, Shipped], images: Tensor, batch: int, rounds: int) -> dict[str, float]:
    """Return the CPU time of a batch: the minimum over rounds that alternate between ways; calls differ in images."""
    batches = [x.clone() for x in images.split(batch)[: 256 if batch == 1 else 8] if len(x) == batch]
    ready = {True: [as_integers(x) for x in batches], False: batches}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            for x in ready[way.bits]:
                way.run(x)
            best[name] = min(best[name], (time.process_time() - start) / len(batches))
    return {name: 1e3 * value for name, value in best.items()}


HEADER = ("case", "network", "accuracy %", "ms, batch 1", "ms, batch 64", "weights KB", "read a sample KB", "memory KB")


class DeployedRow(NamedTuple):
    """Results of a way to run a network: accuracy in %, milliseconds at batch 1 and 64, and bytes."""

    case: str
    way: str
    accuracy: float
    one: float
    many: float
    weights: float
    read: float
    memory: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of a row of the table."""
        sizes = (f"{size / 1000:.1f}" if size else "" for size in self[5:])
        return self.case, self.way, f"{self.accuracy:.2f}", f"{self.one:.3f}", f"{self.many:.2f}", *sizes


def rows(name: str, ways: dict[str, Shipped], samples: Tensor, labels: Tensor, rounds: int) -> Iterator[DeployedRow]:
    one, many = (milliseconds(ways, samples, batch, rounds) for batch in (1, 64))
    for title, way in ways.items():
        yield DeployedRow(
            name, title, accuracy(way, samples, labels), one[title], many[title], way.weights, way.read, way.memory
        )


def rows_of(name: str, folder: Path, root: Path | None, rounds: int, epochs: int | None) -> list[DeployedRow]:
    """Return the rows of a case of images."""
    case = CASES[name] if epochs is None else CASES[name]._replace(begun=epochs, epochs=epochs)
    with shipped(name, case, folder, root) as ways:
        return list(rows(name, ways, *load(case, "test", root), rounds))


def write_json(path: Path, found: list[DeployedRow]) -> None:
    compact.write(path, {"machine": machine.describe("cpu"), "rows": [row._asdict() for row in found]})


def plot(path: Path, found: list[DeployedRow]) -> None:
    """Plot accuracy against latency, one panel a case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(row.case for row in found))
    figure, axes = pyplot.subplots(1, len(cases), figsize=(4.2 * len(cases), 5.4), squeeze=False, layout="constrained")
    for axis, case in zip(axes[0], cases):
        for row, marker in zip((row for row in found if row.case == case), cycle("osD^v<>pPXhd*")):
            colour = "C1" if row.way.startswith("spiking") else "C0"
            axis.plot(row.one, row.accuracy, marker, color=colour, label=row.way)
        axis.set(xscale="log", xlabel="ms, batch 1", ylabel="accuracy, %", title=case)
        axis.xaxis.set_minor_formatter("")
        axis.margins(0.1)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
