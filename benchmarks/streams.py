"""A recurrent spiking network beside a GRU on streams: heartbeats of the QT Database, a label at every step."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.deploy import DeployedRow, Loss, Shipped, fit, in_c, opened, rows, session
from snnfast_zoo.data.splits import train_or_val

INPUTS, CLASSES = 4, 6
GATED = (32, 24, 16)  # sizes of the GRUs
NEURONS = 100
EPOCHS = 32
BATCH = 16
RATE = 0.04  # spikes a neuron and step that cost nothing


class GRU(nn.Module):
    """A GRU with a linear readout, ``[B, T, INPUTS] -> [B, T, CLASSES]``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(INPUTS, size, batch_first=True), nn.Linear(size, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.gru(x)[0])
        return y


def spiking_network() -> nn.Sequential:
    """Build the spiking network, ``[T, B, INPUTS] -> [T, B, CLASSES]``."""
    from snnfast_zoo.papers.sequence.model import SequenceNetwork

    return SequenceNetwork(INPUTS, (NEURONS,), CLASSES, outputs=None, tau_out=5.0).layers


def load(split: str, root: Path) -> tuple[Tensor, Tensor]:
    """Return events ``[N, T, INPUTS]`` and labels ``[N, T]``; -100 stands for no label."""
    from snnfast import data

    x, labels = data.qtdb(root / "qtdb", train=split != "test")
    if split in ("train", "val"):
        part = torch.from_numpy(train_or_val("qtdb", split, len(x), 0))
        x, labels = x[part], labels[part]
    return x.float(), labels


def gru_loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten())


def spiking_loss(penalty: float) -> Loss:
    """Return the cross-entropy of all steps with a penalty on the rate."""
    from snnfast.nn.loss import ce_steps

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        spikes = net[:2](x.transpose(0, 1))
        return ce_steps(net[2:](spikes), y.t()) + penalty * (spikes.mean() - RATE).relu()

    return loss


def trained(folder: Path, data: tuple[Tensor, Tensor], epochs: int) -> dict[str, Any]:
    """Return networks trained for equally many epochs; those that ``folder`` has are not trained again."""
    from snnfast.nn import calibrate_, quantize

    folder.mkdir(parents=True, exist_ok=True)
    more = -(-epochs // 4)
    nets: dict[str, Any] = {}
    for size in GATED:
        torch.manual_seed(0)
        nets[f"GRU of {size}"] = net = GRU(size)
        fit(net, data, gru_loss, epochs + more, 1e-2, folder / f"qtdb-gru-{size}.pt", 2 * BATCH, 1.0)
    torch.manual_seed(0)
    nets["float32"] = spiking_network()
    calibrate_(nets["float32"], data[0][::3].transpose(0, 1))
    loss = spiking_loss(5.0)
    fit(nets["float32"], data, loss, epochs, 0.04, folder / "qtdb-float32.pt", BATCH, 1.0)
    for weights in ("int8", "int4"):
        nets[weights] = quantize(nets["float32"].eval(), weights)
        fit(nets[weights], data, loss, more, 4e-3, folder / f"qtdb-{weights}.pt", BATCH, 1.0)
    for net in nets.values():
        net.eval()
    return nets


def in_pytorch(net: nn.Module, time_first: bool) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(x.transpose(0, 1)).transpose(0, 1) if time_first else net(x)

    return run


def in_onnxruntime(net: nn.Module, path: Path) -> Callable[[Tensor], Tensor]:
    """Run the GRU in ONNX Runtime, which has no int8 GRU."""
    axes = {"x": {0: "samples", 1: "steps"}}
    with torch.no_grad():
        # torch.export would unroll the steps of the example.
        torch.onnx.export(
            net, (torch.zeros(2, 8, INPUTS),), str(path), dynamo=False, input_names=["x"], dynamic_axes=axes
        )
    return session(path)


class Cell(nn.Module):
    """A step of the GRU with its state as input and output."""

    def __init__(self, net: GRU) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.net.gru(x, h)
        return self.net.out(y), h


def step_by_step_in_onnxruntime(net: GRU, path: Path) -> Callable[[Tensor], Tensor]:
    """Run the GRU in ONNX Runtime, one step a call, as for an endless stream."""
    axes = {"x": {0: "samples"}, "h": {1: "samples"}}
    x, h = torch.zeros(1, 1, INPUTS), torch.zeros(1, 1, net.gru.hidden_size)
    with torch.no_grad():
        torch.onnx.export(Cell(net), (x, h), str(path), dynamo=False, input_names=["x", "h"], dynamic_axes=axes)
    model = opened(path)

    def run(x: Tensor) -> Tensor:
        h, found = torch.zeros(1, len(x), net.gru.hidden_size).numpy(), []
        for frame in x.split(1, 1):
            y, h = model.run(None, {"x": frame.numpy(), "h": h})
            found.append(torch.from_numpy(y))
        return torch.cat(found, 1)

    return run


def step_by_step_in_c(folder: Path) -> Callable[[Tensor], Tensor]:
    """Run the program that :func:`in_c` compiled in ``folder``, one step a call."""
    program = ctypes.CDLL(str(folder / "snn.so"))
    step, reset = program.snn_step, program.snn_reset
    step.argtypes = [ctypes.c_void_p] * 2

    def run(x: Tensor) -> Tensor:
        x = x.contiguous()
        y = x.new_empty(*x.shape[:2], CLASSES)
        for sample, out in zip(x, y):
            reset()
            for t in range(len(sample)):
                step(sample.data_ptr() + 4 * INPUTS * t, out.data_ptr() + 4 * CLASSES * t)
        return y

    return run


def spikes_read(net: nn.Module, x: Tensor, size: float) -> float:
    """Return the bytes of weights read for a stream: one row of weights for each event and spike."""
    with torch.no_grad():
        spikes = net[:2](x.transpose(0, 1))
    rows = x.count_nonzero() * NEURONS + spikes[:-1].sum() * NEURONS + spikes.sum() * CLASSES
    return size * float(rows) / len(x)


@contextmanager
def shipped(folder: Path, root: Path, epochs: int | None) -> Iterator[dict[str, Shipped]]:
    """Yield the networks in every way to run them."""
    from snnfast.export import integer

    nets = trained(folder, load("train", root), EPOCHS if epochs is None else epochs)
    spiking = nets["float32"]
    samples = load("test", root)[0]
    ways: dict[str, Shipped] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in (name for name in nets if name.startswith("GRU")):
            gru, place = nets[name], Path(directory) / name
            weights = 4 * sum(p.numel() for p in gru.parameters())
            read = weights * samples.shape[1]
            ways[f"{name}, PyTorch"] = Shipped(in_pytorch(gru, False), weights, read)
            if find_spec("onnxruntime") is not None:
                run = in_onnxruntime(gru, place.with_suffix(".onnx"))
                ways[f"{name}, ONNX Runtime float32"] = Shipped(run, weights, read)
                run = step_by_step_in_onnxruntime(gru, place.with_suffix(".step.onnx"))
                ways[f"{name}, ONNX Runtime float32, a step a call"] = Shipped(run, weights, read)
        weights = 4 * sum(p.numel() for name, p in spiking.named_parameters() if "raw" not in name)
        ways["spiking, PyTorch float32"] = Shipped(
            in_pytorch(spiking, True), weights, spikes_read(spiking, samples, 4.0)
        )
        for kind, size in (("float32", 4.0), ("int8", 1.0), ("int4", 0.5)):
            run, weights, memory = in_c(nets[kind], (INPUTS,), 1, Path(directory) / kind)
            ways[f"spiking, C {kind}"] = way = Shipped(run, weights, spikes_read(nets[kind], samples, size), memory)
            if kind == "float32":
                run = step_by_step_in_c(Path(directory) / kind)
                ways[f"spiking, C {kind}, a step a call"] = way._replace(run=run)
            else:
                few = integer(nets[kind], unit=1 / 127)
                run, weights, memory = in_c(few, (INPUTS,), 1, Path(directory) / f"{kind}-integers")
                ways[f"spiking, C {kind}, integers alone"] = Shipped(run, weights, way.read, memory, bits=True)
        yield ways


def rows_of(folder: Path, root: Path, rounds: int, epochs: int | None) -> list[DeployedRow]:
    """Return the rows of the streams."""
    with shipped(folder, root, epochs) as ways:
        return list(rows("qtdb", ways, *load("test", root), rounds))
