"""Errors of layers that compute differently from PyTorch: float32 against PyTorch in float64.

The table also has the errors of PyTorch's layers in float32, with contiguous images. An error is the norm of the
differences divided by the norm of the values; the table has the largest over results, over gradients of the input and
of every parameter, and over running statistics. ``docs/accuracy.md`` has the table; ``tests/nn/test_nn_accuracy.py``
tests the limit.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.machine import describe

LIMIT = 3  # times PyTorch's error
FLOOR = 1.5e-7  # error of rounding: one bit of float32
PARTS = ("result", "gradients", "statistics")
HEADER = (*("layer", "input", "result here", "PyTorch", "gradients here", "PyTorch"), *("statistics here", "PyTorch"))
INPUTS = {"0 to 1": 0.0, "10 to 11": 10.0}


class ConvertedNetwork(NamedTuple):
    """A network of PyTorch's layers, and its conversion to snnfast's."""

    ours: Callable[[nn.Module], nn.Module]
    plain: nn.Module
    x: Tensor  # in float64
    train: bool = True
    gradients: tuple[str, ...] = ()  # gradients to compare; all if empty
    limit: float = LIMIT


def cases() -> Iterator[tuple[str, str, Callable[[], ConvertedNetwork]]]:
    """Yield name, name of the input, and a function that makes the case."""
    for name, layers in _images().items():
        for kind, offset in INPUTS.items():
            for train in (True, False) if name.endswith(" BatchNorm2d)") else (True,):
                title = name if train else f"{name}, evaluation"
                yield title, kind, lambda o=offset, m=layers, t=train: _in_time(m(), _drawn(o), t)
    for kind, offset in INPUTS.items():
        yield "Time(Conv2d, BatchNorm2d), repeated steps", kind, lambda o=offset: _repeated(o)
        yield "Time(Linear, BatchNorm1d)", kind, lambda o=offset: _rows(o)
        yield "fuse(Time(Conv2d, BatchNorm2d))", kind, lambda o=offset: _fused(o)
    yield "SpikeLinear", "spikes", _spike_linear
    yield "SpikeConv2d, 64 channels, input gradient by Winograd", "spikes", _winograd
    yield "accelerate(Time(Conv2d, BatchNorm2d, ...))", "spikes", _accelerated
    yield "replace(Linear, IFNode)", "eighths", _replaced


def _images() -> dict[str, Callable[[], list[nn.Module]]]:
    def conv(bias: bool) -> nn.Module:
        return nn.Conv2d(8, 16, 3, bias=bias)

    makers: dict[str, Callable[[], nn.Module]] = {
        "BatchNorm2d": lambda: nn.BatchNorm2d(16),
        "BatchNorm2d, momentum None": lambda: nn.BatchNorm2d(16, momentum=None, affine=False),
        "SyncBatchNorm": lambda: nn.SyncBatchNorm(16),
        "module with a BatchNorm2d": lambda: _Block(nn.BatchNorm2d(16)),
        "GroupNorm": lambda: nn.GroupNorm(4, 16),
        "InstanceNorm2d": lambda: nn.InstanceNorm2d(16, affine=True),
        "AvgPool2d": lambda: nn.AvgPool2d(2),
        "AvgPool2d of overlapping windows": lambda: nn.AvgPool2d(3, 2),
        "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(1),
        "Upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    }
    return {
        # a bias before a normalisation has no gradient
        f"Time(Conv2d, {name})": lambda m=make, b="Norm" not in name: [conv(b), m()]  # type: ignore[misc]
        for name, make in makers.items()
    }


class _Block(nn.Module):
    """A module without a special case in :class:`snnfast.nn.Time`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def _drawn(offset: float, *size: int) -> Tensor:
    return offset + torch.rand(size or (4, 16, 8, 20, 20), dtype=torch.float64)


def _time(layers: list[nn.Module], fast: bool) -> nn.Module:
    from snnfast.nn import Time

    return Time(*layers, fast=fast)


def _set_fast(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if hasattr(module, "folds_time"):
            module.fast = True  # type: ignore[assignment]
    return net


def _in_time(layers: list[nn.Module], x: Tensor, train: bool = True) -> ConvertedNetwork:
    return ConvertedNetwork(_set_fast, _time(layers, False), x, train)


def _repeated(offset: float) -> ConvertedNetwork:
    case = _in_time([nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16)], _drawn(offset, 1, 32, 8, 20, 20))
    return case._replace(x=case.x.expand(4, *case.x.shape[1:]))


def _rows(offset: float) -> ConvertedNetwork:
    layers = [nn.Linear(16, 64, bias=False), nn.BatchNorm1d(64)]
    return _in_time(layers, _drawn(offset, 16, 512, 16))


def _fused(offset: float) -> ConvertedNetwork:
    from snnfast.nn import fuse

    def ours(net: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _set_fast(fuse(nn.Sequential(net)))[0]  # type: ignore[index]

    plain = _time([nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16)], False)
    return ConvertedNetwork(ours, plain, _drawn(offset), False, ("x",))


def _spikes(*size: int) -> Tensor:
    return (torch.rand(size) < 0.1).double()


def _spike_linear() -> ConvertedNetwork:
    from snnfast.nn import SpikeLinear

    def ours(net: nn.Module) -> nn.Module:
        linear: Any = net
        linear.__class__, linear.method = SpikeLinear, "events"
        return net

    return ConvertedNetwork(ours, nn.Linear(16, 24), _spikes(200_000, 16))


def _winograd() -> ConvertedNetwork:
    from snnfast.nn import SpikeConv2d

    def ours(net: nn.Module) -> nn.Module:
        conv: Any = net
        conv.__class__, conv.method = SpikeConv2d, "auto"
        return net

    return ConvertedNetwork(ours, nn.Conv2d(64, 64, 3, padding=1), _spikes(8, 64, 20, 20), gradients=("x",), limit=20)


def _accelerated() -> ConvertedNetwork:
    from snnfast.nn import accelerate

    layers = [nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.AvgPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(16 * 9 * 9, 10)]
    plain = _time(layers, False)
    return ConvertedNetwork(lambda net: accelerate(_set_fast(net)), plain, _spikes(4, 16, 8, 20, 20))


def _eighths(*size: int) -> Tensor:
    """Draw inputs for exact membranes, so that float32 and float64 have the same spikes."""
    return torch.randint(-4, 16, size).double() / 8


class _IF(nn.Module):
    """SpikingJelly's ``IFNode`` in plain PyTorch, multi-step, with its sigmoid surrogate."""

    step_mode, v_threshold, v_reset, detach_reset = "m", 1.0, 0.0, False
    surrogate_function = type("Sigmoid", (), {"__module__": "spikingjelly", "alpha": 4.0, "spiking": True})()

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for x_t in x:
            h = v + x_t
            soft = torch.sigmoid(4.0 * (h - 1.0))
            spikes.append((h >= 1.0).to(h) - soft.detach() + soft)
            v = h * (1 - spikes[-1])
        return torch.stack(spikes)


_IF.__module__, _IF.__name__ = "spikingjelly.activation_based.neuron", "IFNode"


def _replaced() -> ConvertedNetwork:
    from snnfast.nn import replace

    linear = nn.Linear(16, 32)
    with torch.no_grad():
        for p in linear.parameters():
            p.copy_((p * 32).round() / 8)
    return ConvertedNetwork(lambda net: replace(net), nn.Sequential(linear, _IF()), _eighths(6, 64, 16))


def errors(case: ConvertedNetwork) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the errors of snnfast and of PyTorch, by part and name."""
    plain = case.plain.train(case.train)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if parameter.dim() == 1 and "weight" in name:
                parameter.uniform_(0.5, 1.5)
        if not case.train:
            plain.train()(case.x.float())
            plain.eval()
    exact = _values(copy.deepcopy(plain).double(), case.x, case.gradients)
    with_ours = case.ours(copy.deepcopy(plain)).train(case.train)
    repeated = case.x.stride(0) == 0
    images = case.x[:1].float().expand(case.x.shape) if repeated else case.x.float()
    contiguous = images if repeated else images.contiguous()
    found = (_values(net, x, case.gradients) for net, x in ((with_ours, images), (plain, contiguous)))
    ours, pytorch = found
    return {
        part: {
            name: (_error(value, exact[part][name]), _error(pytorch[part][name], exact[part][name]))
            for name, value in ours[part].items()
        }
        for part in PARTS
    }


def _values(net: nn.Module, x: Tensor, wanted: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    """Return results, gradients and statistics, by name."""
    repeated = x.stride(0) == 0
    leaf = (x[:1] if repeated else x).detach().requires_grad_()
    y = net(leaf.expand(x.shape) if repeated else leaf)
    result = y[1] if isinstance(y, tuple) else y
    grad = torch.rand(result.shape, generator=torch.Generator().manual_seed(1)) - 0.4
    parameters = dict(net.named_parameters())
    grads = torch.autograd.grad(result, [leaf, *parameters.values()], grad.to(result.dtype))
    names = ["x", *parameters]
    statistics = {n: b for n, b in net.named_buffers() if "running" in n}
    return {
        "result": {"y": result.detach()},
        "gradients": {n: g for n, g in zip(names, grads) if n in (wanted or names)},
        "statistics": statistics,
    }


def _error(value: Tensor, wanted: Tensor) -> float:
    return ((value.double() - wanted).norm() / wanted.norm().clamp_min(1e-30)).item()


def lines() -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table: the largest errors of every case."""
    for name, kind, make in cases():
        torch.manual_seed(0)
        cells = []
        for pairs in errors(make()).values():
            worst = [max(pair) for pair in zip(*pairs.values())] or [None, None]
            cells += ["–" if e is None else f"{e:.1e}" if e else "0" for e in worst]
        yield name, kind, *cells


def write(page: Path, found: Iterable[Sequence[str]]) -> None:
    """Write the table between the two marks of a Markdown page, with the machine."""
    machine = describe("cpu")
    rows = [HEADER, ("---",) * len(HEADER), *found]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    where = f"{machine['cpu']} ({machine['isa']}), PyTorch {machine['torch']}"
    before, begin, rest = page.read_text().partition("<!-- measured: begin -->\n")
    _, end, after = rest.partition("<!-- measured: end -->")
    page.write_text(f"{before}{begin}{table}\n\nOn an {where}.\n{end}{after}")
