"""Costs of convolutions by events, measured once on a processor and kept in the folder of compiled kernels."""

from __future__ import annotations

import hashlib
import json
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import backend
from snnfast.compiler.build import folder
from snnfast.files.atomic import replacing
from snnfast.reference.call import flatten
from snnfast.reference.spike_conv2d import METHODS, SpikeConv2dCall

LARGE = 2**27  # products of a call, a few ms, from which on a choice is worth a measurement
REPEATS = 7
SHARES = 0.1, 0.3
# N, C, H = W, O: a table of weights that fits the first-level cache, and one that does not; kernels of 3 x 3.
SMALL, BIG = (32, 32, 14, 32), (16, 64, 16, 64)
LINE = 16  # outputs; kConvLine in csrc/core/spike_conv2d.h


class Costs(NamedTuple):
    """``ConvCosts`` in csrc/core/spike_conv2d.h."""

    small: float
    large: float
    row: float
    most: float
    weight_line: float
    weight_pixel: float
    weight_most: float


# Costs that a processor can have; a measurement beyond was disturbed.
LEAST = Costs(0.3, 0.3, 0.0, 0.0, 0.3, 0.0, 0.0)
MOST = Costs(4.0, 4.0, 200.0, 1.0, 4.0, 400.0, 1.0)

_fitted = False
_lock = threading.Lock()


def fit(products: int) -> None:
    """Set the costs of this processor before the first large convolution: those in the cache, else measured ones.

    Without a folder to keep them in, the built-in ones stay, so that runs on a machine choose alike.
    """
    global _fitted
    if _fitted or products < LARGE or torch._C._len_torch_dispatch_stack():
        return
    with _lock:
        if not _fitted:
            costs = of_machine()
            assert backend.extension is not None, "a kernel was chosen"
            if costs is not None:
                backend.extension.set_conv_costs(*costs)
        _fitted = True


def of_machine() -> Costs | None:
    """Return the costs of this processor, which are measured if the cache has none; None if it cannot keep them."""
    path = folder() / f"conv-costs-{_machine()}.json"
    costs = read(path)
    if costs is None:
        costs = Costs._make(min(max(c, low), high) for c, low, high in zip(measured(), LEAST, MOST))
        try:
            with replacing(path) as new:
                new.write_text(json.dumps(costs._asdict()))
        except OSError:
            return None
    return costs


def read(path: Path) -> Costs | None:
    """Return the costs in a file; None if it holds none."""
    try:
        costs = Costs(**json.loads(path.read_bytes()))
        within = all(low <= cost <= high for low, cost, high in zip(LEAST, costs, MOST))
    except (OSError, ValueError, TypeError):
        return None
    return costs if within else None


def _machine() -> str:
    """Return a name of the processor, its instruction set and PyTorch, whose product is the measure."""
    about = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        first = info.read_text().split("\n\n")[0].splitlines()
        about = "\n".join(line for line in first if line.startswith(("model", "cpu family", "stepping", "cache size")))
    assert backend.extension is not None, "a kernel was chosen"
    words = about, backend.extension.cpu_isa(), torch.__version__
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def measured() -> Costs:
    """Return the costs of events on this processor, by the times of two convolutions with few and with many spikes."""
    (small, small_row, *_), (large, large_row, line, pixel) = map(_of_shape, (SMALL, BIG))
    return Costs(small, large, (small_row + large_row) / 2, 0.6, line, pixel, 0.6)


def _of_shape(shape: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    """Return the costs of a line and of a row, and of a line and a pixel of the gradient of the weights."""
    n, c, size, o = shape
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        few, many = (_seconds(share, *shape) for share in SHARES)
    weights, pixels = 9 * c * (o // LINE), n * size**2
    dense = weights * pixels

    def line_and_rest(part: int) -> tuple[float, float]:
        unit = min(few[part + 1], many[part + 1]) / dense
        low, high = few[part] / unit, many[part] / unit
        slope = (high - low) / (SHARES[1] - SHARES[0])
        return slope / dense, low - SHARES[0] * slope - 8 * weights

    line, rest = line_and_rest(0)
    weight_line, weight_rest = line_and_rest(2)
    return line - 4 * c / weights, rest / (3 * pixels), weight_line, weight_rest / pixels


def _seconds(share: float, n: int, c: int, size: int, o: int) -> tuple[float, float, float, float]:
    """Return the times by events and of the dense product: of the convolution, and of the gradient of its weights."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")

    x = (drawn(n, size, size, c) < share).float().permute(0, 3, 1, 2)
    weight, grad = drawn(o, c, 3, 3) - 0.5, (drawn(n, size, size, o) - 0.5).permute(0, 3, 1, 2)
    how = {"stride_h": 1, "stride_w": 1, "padding_h": 1, "padding_w": 1, "method": METHODS.index("events")}
    flat = flatten(SpikeConv2dCall(x=x, weight=weight, bias=None, **how))
    kernels, aten = torch.ops.snnfast, torch.ops.aten
    _, bits, found = kernels.spike_conv2d_forward(*flat)
    one = [1, 1]
    only_weight = [False, True, False]
    return (
        _least(lambda: kernels.spike_conv2d_forward(*flat)),
        _least(lambda: aten.convolution(x, weight, None, one, one, one, False, [0, 0], 1)),
        _least(lambda: kernels.spike_conv2d_backward(*flat, bits, found, grad)),
        _least(lambda: aten.convolution_backward(grad, x, weight, None, one, one, one, False, [0, 0], 1, only_weight)),
    )


def _least(run: Callable[[], Any]) -> float:
    run()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)
