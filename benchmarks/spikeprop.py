"""Exact spike times, ``B x inputs x terminals x neurons``, and training, with ``x outputs``: time per sample.

With many terminals, inputs fire at whole milliseconds, as in the paper. With one terminal, inputs are pixels of the
digits in the package, enlarged to 28 x 28, of which 122 fire on average, and one input that always fires. One sample
and three outputs is Iris with the manual's calls, one step per flower.
``product`` only multiplies events and weights, as matrix products of the same size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import neurons, report
from benchmarks.digits import enlarged
from benchmarks.timing import Prepared, Task

SHAPES = ((128, 50, 16, 16), (64, 785, 1, 400), (32, 785, 1, 400, 10), (1, 50, 16, 10, 3))
QUICK_SHAPES = ((4, 6, 2, 3), (4, 197, 1, 5), (8, 197, 1, 20, 10), (1, 50, 16, 2, 3))
FLOOR = "product"
GRID, PYTHON = ("matrix_products", "reference_loop"), "python_loop"
BASELINES = (*GRID, PYTHON)
FORWARD, GRADIENTS, TRAINING, MANUAL = "forward", "forward+backward", "training", "Bohte.step"
DT = 0.1  # step of the grid of the baselines, in milliseconds
PAPER, PIXELS = {"tau": 7.0, "t_max": 40.0}, {"tau": 60.0, "t_max": 30.0}
BATCHES = 60  # batches of a timed epoch of snnfast
FLOWERS = 6  # number of flowers after which the network is compared with plain Python
PER_PYTHON_LOOP = 300

# t_in, w, delays -> t_out, or with return_u_max t_out and u_max.
Op = Callable[..., Any]


class Must(NamedTuple):
    """A limit of snnfast; ``scale`` converts seconds per sample to ``unit``."""

    shape: tuple[int, ...]
    name: str
    unit: str
    scale: float
    limit: float


MUSTS = (
    Must(SHAPES[0], FORWARD, "us a sample", 1e6, 5),
    Must(SHAPES[1], GRADIENTS, "us a sample", 1e6, 80),
    Must(SHAPES[2], TRAINING, "s an epoch of MNIST", 60_000, 10),
    Must(SHAPES[3], MANUAL, "s for 60 epochs of Iris", 60 * 120, 2),
)


def verdicts(rows: list[report.Row]) -> list[dict[str, Any]]:
    """Compare the measurements with the limits."""
    found = []
    for row in rows:
        task = row.task
        judge = partial(report.verdict, task.shape, row.name)
        if (task.implementation, row.name) == (PYTHON, MANUAL):
            found.append(judge("python_loop / snnfast", row.per_ours, ">=", PER_PYTHON_LOOP))
        for must in MUSTS if task.implementation == neurons.OURS else ():
            if (must.shape, must.name) == (task.shape, row.name):
                ratio = f"{must.unit}, {task.threads} thread{'s' * (task.threads > 1)}"
                found.append(judge(ratio, must.scale * row.minimum_seconds, "<=", must.limit))
    return found


def prepare(task: Task) -> Prepared:
    name, by_manual = task.implementation, task.shape[0] == 1
    if name == FLOOR:
        return products(task)
    if name != neurons.OURS and by_manual != (name == PYTHON):
        raise neurons.Skip(f"{PYTHON} is for the manual's calls, {', '.join(GRID)} for the rest")
    if by_manual:
        return manual(task)
    if name == neurons.OURS:
        return one_layer(ours, task) if len(task.shape) == 4 else training(None, task, BATCHES)
    op = neurons.baseline(name).spikeprop
    return one_layer(op, task) if len(task.shape) == 4 else training(op, task, 1)


def ours(t_in: Tensor, w: Tensor, delays: Tensor, **constants: float) -> Any:
    from snnfast import ops

    return ops.spikeprop(t_in, w, delays, **constants)


def one_layer(op: Op, task: Task) -> Prepared:
    """Prepare spike times, and the gradient of the weights."""
    from snnfast.nn import SpikeProp, calibrate

    batch, inputs, terminals, outputs = task.shape
    torch.manual_seed(0)
    if terminals > 1:
        t_in, delays, mean_time, constants = (torch.randint(0, 10, (batch, inputs)), terminals, 12.0, PAPER)
    else:
        t_in, delays, mean_time, constants = pixels(inputs)[0][:batch], [0.0], 6.0, PIXELS
    layer = SpikeProp(inputs, outputs, delays, **constants).to(task.torch_dtype)
    t_in = t_in.to(task.torch_dtype)
    calibrate(layer, t_in, mean_time)
    t_in, layer = t_in.to(task.device), layer.to(task.device)
    w = layer.weight.detach()

    def forward() -> Tensor:
        return op(t_in, w, layer.delays, **constants)  # type: ignore[no-any-return]

    def gradients() -> Tensor:
        t = op(t_in, layer.weight, layer.delays, **constants)
        return torch.autograd.grad(torch.where(t.isfinite(), t, 0).sum(), layer.weight)[0]

    t = forward()
    facts = {"ms": t[t.isfinite()].double().mean().item(), "gradient": gradients().norm().item()}
    passes = {FORWARD: forward, GRADIENTS: gradients}
    return Prepared(passes, facts, dict.fromkeys(passes, batch))


def training(op: Op | None, task: Task, batches: int) -> Prepared:
    """Prepare an epoch of ``snnfast train spikeprop --dataset mnist`` over some batches, optionally with ``op``."""
    from snnfast.train import Output, Run, Score, fit
    from snnfast_zoo.papers.bohte2002.train import augmentation, decide, objective
    from snnfast_zoo.papers.procedures import spikeprop as procedure
    from snnfast_zoo.train.place import Data

    batch, inputs, _, hidden, _ = task.shape
    times, labels = pixels(inputs)
    chosen = torch.arange(batch * batches) % len(times)
    train = times[chosen].to(task.device, task.torch_dtype), labels[chosen].to(task.device)
    held_out = train[0][:1], train[1][:1]
    parts = Data(train, held_out)
    settings = procedure.preset("mnist", hidden=(hidden,), batch_size=batch, epochs=1)
    torch.manual_seed(settings.seed)
    model = procedure.model(settings, parts).to(task.torch_dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
    run = Run(model, optimizer, score=Score(decide(settings)))
    how: dict[str, Any] = {"loss": objective(settings), "augment": augmentation(settings), "calibrate": None}
    how["output"] = Output(progress=False, echo=None)
    for layer in run.model.layers if op else ():  # type: ignore[union-attr]
        layer.forward = partial(_forward, layer, op)

    def epoch() -> None:
        run.epoch = 0
        fit(run, parts.train, parts.held_out, epochs=1, batch_size=batch, **how)

    first = run.model(train[0][:batch])
    facts = {"loss": objective(settings)(first, train[1][:batch]).item()}
    return Prepared({TRAINING: epoch}, facts, {TRAINING: batch * batches})


def _forward(layer: Any, op: Op, t: Tensor, return_u_max: bool = False) -> Any:
    constants = {"tau": layer.tau, "t_max": layer.t_max, "return_u_max": return_u_max}
    return op(t, layer.weight, layer.delays, **constants)


def manual(task: Task) -> Prepared:
    """Prepare Iris with the manual's calls, one step per flower: 60 epochs, or some flowers in plain Python."""
    from benchmarks.baselines import python_loop
    from snnfast.model import Bohte2002
    from snnfast_zoo.n3ml.optimizer import Bohte

    _, inputs, terminals, hidden, outputs = task.shape
    times, wanted = flowers()
    torch.manual_seed(0)
    model, optimizer = Bohte2002(inputs, hidden, outputs, terminals), Bohte()
    model.initialize()
    weights = [layer.weight.detach() for layer in model.layers]
    before = [w.clone() for w in weights]

    def ours(epochs: int, flowers: int) -> list[Tensor]:
        for w, start in zip(weights, before):
            w.copy_(start)
        for _ in range(epochs):
            for t, labels in zip(times[:flowers], wanted):
                optimizer.step(model=model, spiked_input=t, spiked_label=labels)
        return weights

    def python(stop: bool) -> list[Tensor]:
        heard = times[:FLOWERS].masked_fill(times[:FLOWERS] < 0, math.inf)
        samples = list(zip(heard.tolist(), wanted.tolist()))
        after = python_loop.bohte([w.tolist() for w in before], samples, stop)
        return [torch.tensor(w) for w in after]

    passes: dict[str, Callable[[], list[Tensor]]]
    if task.implementation == PYTHON:
        after, steps = python(stop=True), FLOWERS
        passes = {MANUAL: partial(python, False), f"{MANUAL}, to the spike": partial(python, True)}
    else:
        epochs = 60 if task.shape in SHAPES else 1
        after, steps = ours(1, FLOWERS), epochs * len(times)
        passes = {MANUAL: partial(ours, epochs, len(times))}
    facts = {"weights": math.hypot(*(w.norm().item() for w in after))}
    return Prepared(passes, facts, dict.fromkeys(passes, steps))


def products(task: Task) -> Prepared:
    batch, inputs, terminals, *layers = task.shape
    events = inputs * terminals
    if terminals == 1:
        events = round(pixels(inputs)[0].isfinite().sum(1).float().mean().item())
    sizes = []
    for outputs in layers:
        sizes.append((events, outputs))
        events = outputs * terminals
    like: dict[str, Any] = {"device": task.device, "dtype": task.torch_dtype}
    x = [torch.rand(batch, events, **like) for events, _ in sizes]
    w = [torch.rand(events, outputs, **like) for events, outputs in sizes]
    grad = [torch.rand(batch, outputs, **like) for _, outputs in sizes]

    def forward() -> list[Tensor]:
        return [torch.mm(*pair) for pair in zip(x, w)]

    def gradients() -> list[Tensor]:
        of_weights = [torch.mm(a.t(), g) for a, g in zip(x, grad)]
        of_times = [torch.mm(g, b.t()) for g, b in zip(grad[1:], w[1:])]
        return forward() + of_weights + of_times

    passes: dict[str, Callable[[], object]] = {FORWARD: forward, GRADIENTS: gradients}
    if len(layers) > 1:
        passes = {MANUAL if batch == 1 else TRAINING: gradients}
    return Prepared(passes, {}, dict.fromkeys(passes, batch))


def pixels(inputs: int) -> tuple[Tensor, Tensor]:
    """Return spike times of enlarged digits ``[images, inputs]``, in milliseconds, and labels."""
    from snnfast.encoder import LatencyEncoder

    images, labels = enlarged(math.isqrt(inputs - 1))
    times = LatencyEncoder(8.0, threshold=0.5)(images.mul(255).round().div(255))
    return nn.functional.pad(times, (0, inputs - times.shape[1])), labels


def flowers() -> tuple[Tensor, Tensor]:
    """Return Iris as in the manual: spike times ``[120, 50]``, -1 for none, and target times of the outputs."""
    from snnfast.data import IRISDataLoader
    from snnfast.encoder import PopulationEncoder

    loader = IRISDataLoader(ratio=0.8)
    train, summary = loader.run(), loader.summarize()
    code = PopulationEncoder(12, summary["min"], summary["max"], t_max=30, silent_from=28, dt=1)
    times = nn.functional.pad(code(train["train.data"]).flatten(1), (0, 2)).float()
    wanted = torch.full((len(times), 3), 13.0)
    wanted[torch.arange(len(times)), train["train.target"]] = 8.0
    return times, wanted
