"""A converted network: time per step, relative to a forward pass of the ReLU network, ``T x B [x hidden]``.

The network is that of Diehl et al. 2015, convolutional or, with hidden layers, fully connected, trained for a few
seconds on the digits in the package with the statistics of MNIST. ``ann`` is one forward pass on the batch; all others
run T steps and are timed per step. "chunk" passes run this number of steps of a layer at once; "dense" does not skip
silent inputs.

The fact "agreement" is the share of images with the same class as the ReLU network after T steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks import neurons, report
from benchmarks.bp_stdp_network import samples
from benchmarks.timing import Prepared, Task

SHAPES = ((100, 100), (100, 100, 1200, 1200), (100, 1, 1200, 1200))
QUICK_SHAPES = ((3, 2), (3, 2, 20))
FLOOR = "ann"
BASELINES = ("spikingjelly",)
CONSTANT = "constant current"
LEARNED = 3_000
PERCENTILE = 99.9
# Limits of the first two shapes, and of the first.
FORWARDS, PER_SPIKINGJELLY = 1.15, 3.0


@functools.cache
def trained(hidden: tuple[int, ...], learned: int) -> nn.Module:
    """Train the ReLU network; return it in evaluation mode."""
    from snnfast.papers import Diehl2015

    torch.manual_seed(0)
    model = Diehl2015(hidden=hidden or None, dropout=0.0)
    pixels, labels = samples(784)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for chosen in torch.randint(len(labels), (learned // 50, 50)):
        loss = F.cross_entropy(model(pixels[chosen].view(-1, 1, 28, 28)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def prepare(task: Task) -> Prepared:
    steps, batch, *hidden = task.shape
    learned = LEARNED if task.shape in SHAPES else LEARNED // 20
    model = trained(tuple(hidden), learned).to(task.device, task.torch_dtype)
    pixels, _ = samples(784)
    images = pixels.view(-1, 1, 28, 28).to(task.device, task.torch_dtype)
    x, calibration = images[:batch], [images[-500:]]
    if task.implementation == FLOOR:
        return Prepared({FLOOR: functools.partial(model, x)}, {})
    if task.implementation == neurons.OURS:
        runs = passes(x, model, calibration, steps)
    else:
        library = neurons.baseline(task.implementation)
        runs = {CONSTANT: library.conversion(x, model, calibration, steps)}
    with torch.no_grad():
        same = model(x).argmax(1) == runs[CONSTANT]().argmax(1)
    facts = {"agreement": same.double().mean().item()}
    return Prepared(dict(runs), facts, dict.fromkeys(runs, steps))


def passes(x: Tensor, model: nn.Module, calibration: list[Tensor], steps: int) -> dict[str, Callable[[], Tensor]]:
    """Return the passes of snnfast, by name."""
    import snnfast
    from snnfast.conversion import shortcuts

    arguments: dict[str, Any] = {"percentile": PERCENTILE}
    constant = snnfast.convert(model, calibration, **arguments)
    poisson = snnfast.convert(model, calibration, encoding="poisson", **arguments)

    def dense() -> Tensor:
        with mock.patch.object(shortcuts, "is_worth_skipping", return_value=False):
            return constant(x, steps)

    return {
        CONSTANT: lambda: constant(x, steps),
        "constant current, dense": dense,
        "constant current, chunk 1": lambda: constant(x, steps, chunk=1),
        "constant current, chunk 4": lambda: constant(x, steps, chunk=4),
        "constant current, chunk 64": lambda: constant(x, steps, chunk=64),
        "Poisson spikes": lambda: poisson(x, steps),
    }


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limits."""
    found = []
    for row in rows:
        task = row.task
        if row.name != CONSTANT:
            continue
        judge = functools.partial(report.verdict, task.shape, row.name)
        if task.implementation == neurons.OURS and task.shape in SHAPES[:2]:
            found.append(judge("forwards of the ANN", row.floors, "<=", FORWARDS))
        if task.implementation == "spikingjelly" and task.shape == SHAPES[0]:
            found.append(judge("spikingjelly / snnfast", row.per_ours, ">=", PER_SPIKINGJELLY))
    return found
