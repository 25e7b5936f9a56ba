"""BP-STDP of a network, ``T x B x inputs x hidden x outputs``: time per image, in batches of B.

Images have the brightness of MNIST, weights are those of training. ``op`` is the op on prepared spikes, ``fit`` is
everything after the loader (encoding, desired times, loss, accuracy), ``networks at once`` is the op on several
networks, per image and network. ``products`` are the dense matrix products of the network: for the currents of each
layer over all steps, and in steps with a desired spike for backpropagated errors and weight changes.

The fact "additions" counts the additions per image that the spikes require: to a current for every spike, and to a
weight if its neuron has an error and its input has a spike in the window.
"""

from __future__ import annotations

import functools
import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from benchmarks import neurons, report
from benchmarks.digits import enlarged
from benchmarks.timing import Prepared, Task

SHAPES = ((50, 100, 784, 500, 10), (20, 1, 784, 500, 10), (50, 100, 784, 500, 150, 10))
QUICK_SHAPES = ((5, 2, 64, 7, 3),)
FLOOR = "products"
BASELINES = ("manual_loop",)
OP, FIT = "op", "fit"
# Enough networks for the threads of a CPU or the blocks of a GPU.
TOGETHER, NETWORKS, FEW = "networks at once", {"cpu": 8, "cuda": 128}, 500
LR, EPSILON, BETA, SCALE = 5e-4, 4, 250.0, 5.0
# Values of MNIST: share of pixels that are not black, mean (0.13 after clamping).
LIT, BRIGHTNESS = 0.19, 0.143
EPOCH, EPOCH_SECONDS, PER_MANUAL_LOOP = 60_000, 120.0, 100.0  # limits
LENGTH = 4_000  # images per pass
LEARNED = 2_000


@functools.cache
def samples(inputs: int) -> tuple[Tensor, Tensor]:
    """Enlarge the digits in the package to the statistics of MNIST: ``[N, inputs]`` in [0, 1], and labels."""
    pixels, labels = enlarged(math.isqrt(inputs))
    dark = pixels.flatten().kthvalue(int((1 - LIT) * pixels.numel())).values
    pixels = (pixels - dark).clamp(min=0)
    return (pixels * (BRIGHTNESS * inputs / pixels.sum(1).mean())).clamp(max=1), labels


def loader(inputs: int, classes: int, batch: int, count: int) -> list[tuple[Tensor, Tensor]]:
    pixels, labels = samples(inputs)
    order = torch.arange(count) % len(pixels)
    return list(zip(pixels[order].split(batch), labels[order].remainder(classes).split(batch)))


def network(sizes: tuple[int, ...], steps: int, learned: int):  # type: ignore[no-untyped-def]
    """Return the model, trained on ``learned`` images, and its encoder."""
    from snnfast import encoder
    from snnfast import papers as model

    torch.manual_seed(0)
    inputs, *hidden, classes = sizes
    net = model.TavanaeiAndMaida2017(inputs, hidden, classes)
    encode = encoder.BernoulliEncoder(steps, SCALE, dtype=torch.uint8)
    net.fit(loader(inputs, classes, 100, learned), encode, lr=LR, update="sequence")
    return net, encode


def ours(task: Task) -> Prepared:
    from snnfast import encoder, ops

    steps, batch, *sizes = task.shape
    quick = task.shape in QUICK_SHAPES
    count = 2 * batch if quick else LENGTH
    net, encode = network(tuple(sizes), steps, 20 if quick else LEARNED)
    net.to(task.device)
    update = "step" if batch == 1 else "sequence"
    drawn = loader(sizes[0], sizes[-1], batch, count)
    batches = [(pixels.to(task.device), targets.to(task.device)) for pixels, targets in drawn]
    x = torch.cat([encode(pixels) for pixels, _ in batches], 1)
    labels = torch.cat([targets for _, targets in batches])
    desired = encoder.desired_times(len(labels), BETA, steps).to(task.device)
    start = [w.clone() for w in net.weights]

    def restore() -> None:
        for w, before in zip(net.weights, start):
            w.copy_(before)

    options: dict[str, Any] = {"lr": LR, "epsilon": EPSILON, "update": update, "batch": batch}
    options["validate"] = False

    def op() -> object:
        restore()
        return net.learn(x, labels, desired, **options)

    networks = NETWORKS[task.device]
    several = [w.repeat(networks, 1, 1) for w in start]
    few, thresholds = min(FEW, len(labels)), [layer.threshold for layer in net.layers]

    def together() -> object:
        for w, before in zip(several, start):
            w.copy_(before)
        presented = x[:, :few], labels[:few], desired[:, :few]
        return ops.bp_stdp_network_(several, *presented, thresholds=thresholds, **options)

    def fit() -> object:
        restore()
        return net.fit(batches, encode, lr=LR, epsilon=EPSILON, beta=BETA, update=update)

    rasters = [x, *net.present(x, return_hidden=True).hidden, op().spikes]  # type: ignore[attr-defined,misc]
    restore()
    facts = {"additions": additions([r != 0 for r in rasters], labels, desired) / len(labels)}
    facts[TOGETHER] = networks
    passes = {OP: op, FIT: fit, TOGETHER: together}
    return Prepared(passes, facts, {OP: len(labels), FIT: len(labels), TOGETHER: few * networks})


def additions(rasters: list[Tensor], labels: Tensor, desired: Tensor) -> float:
    """Count the additions to currents, and to weights of neurons with an error, over all samples."""
    from snnfast.nn.loss import bp_stdp_error

    sizes = [r.shape[2] for r in rasters]
    to_currents = sum(int(r.sum()) * n for r, n in zip(rasters, sizes[1:]))
    one_hot = F.one_hot(labels, sizes[-1]).bool()
    wrong = bp_stdp_error(rasters[-1], desired[..., None] & one_hot, labels, EPSILON).any(2)
    to_weights = 0
    fired = []
    for r in rasters:
        counts = F.pad(r.int().cumsum(0), (0, 0, 0, 0, EPSILON + 1, 0))
        fired.append((counts[EPSILON + 1 :] > counts[: -EPSILON - 1])[wrong])
    errors = [*(f.sum(1) for f in fired[1:-1]), torch.ones(int(wrong.sum()))]
    for f, post in zip(fired, errors):
        to_weights += int((f.sum(1) * post).sum())
    return to_currents + to_weights


def products(task: Task) -> Prepared:
    """Prepare the dense products."""
    steps, batch, *sizes = task.shape
    slots = steps * batch
    chosen = max(round(slots * BETA / 1000), 1)
    pairs = [
        tuple(torch.rand(shape, device=task.device) for shape in ((slots, i), (o, i), (slots, o)))
        for i, o in pairwise(sizes)
    ]

    def run() -> None:
        for depth, (x, w, error) in enumerate(pairs):
            _ = x @ w.T
            if depth:
                _ = error[:chosen] @ w
            w.addmm_(error[:chosen].T, x[:chosen], alpha=1e-9)

    return Prepared({FLOOR: run}, {}, {FLOOR: batch})


def prepare(task: Task) -> Prepared:
    if task.implementation == FLOOR:
        return products(task)
    if task.implementation == neurons.OURS:
        return ours(task)
    return neurons.baseline(task.implementation).bp_stdp_network(task)


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limits, for one thread."""
    found = []
    for row in rows:
        task = row.task
        if (task.threads, row.name) != (1, FIT):
            continue
        judge = functools.partial(report.verdict, task.shape, row.name)
        if task.implementation == BASELINES[0]:
            found.append(judge("manual_loop / snnfast", row.per_ours, ">=", PER_MANUAL_LOOP))
        elif task.implementation == neurons.OURS and task.shape == SHAPES[0]:
            epoch = EPOCH * row.minimum_seconds
            found.append(judge("s an epoch of 60,000, 1 thread", epoch, "<=", EPOCH_SECONDS))
    return found
