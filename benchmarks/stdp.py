"""Plasticity of a dense layer, ``T x B x inputs x neurons``, with sparse spikes.

``clamp`` only bounds the weights T times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((250, 32, 784, 400), (250, 1, 784, 400))
QUICK_SHAPES = ((3, 2, 5, 4),)
FLOOR = "clamp"
BASELINES = ("outer_products", "matrix_products", "spikingjelly", "bindsnet")
# An update in every step, and one update for all steps.
STEP, SEQUENCE = "step", "sequence"
# Ten spikes per step of 784 inputs, as for an image of MNIST, and one in the layer.
RATE_PRE, RATE_POST = 10 / 784, 1 / 400
LR_PRE, LR_POST, TAU = 1e-4, 1e-3, 20.0

Learn = Callable[[Tensor, Tensor, Tensor], object]


def rules() -> dict[str, Learn]:
    """Return the pair rule, as in every baseline, and other rules for comparison, by pass."""
    from snnfast import ops, plasticity

    pair = plasticity.pair(LR_PRE, LR_POST)
    costly = {
        "soft bounds": plasticity.soft_bounds(LR_PRE, LR_POST),
        "pre and post": plasticity.pre_post(LR_PRE, LR_POST),
        "triplet": plasticity.triplet(LR_PRE, LR_POST),
        "own": plasticity.OwnRule(lambda s: LR_POST * s.s_post * s.x_pre - LR_PRE * s.s_pre * s.x_post),
    }

    def learn(rule: plasticity.Rule | plasticity.OwnRule, update: str) -> Learn:
        return lambda w, pre, post: ops.stdp_(w, pre, post, rule=rule, update=update, validate=False)

    passes = {STEP: learn(pair, STEP), SEQUENCE: learn(pair, SEQUENCE)}
    return passes | {f"{STEP}, {name}": learn(rule, STEP) for name, rule in costly.items()}


def prepare(task: Task) -> Prepared:
    steps, batch, inputs, outputs = task.shape
    generator = torch.Generator().manual_seed(0)
    pre = torch.rand((steps, batch, inputs), generator=generator) < RATE_PRE
    post = torch.rand((steps, batch, outputs), generator=generator) < RATE_POST
    start = 0.3 * torch.rand((outputs, inputs), generator=generator)
    pre, post = pre.to(task.device), post.to(task.device)
    start = start.to(task.device, task.torch_dtype)
    w = start.clone()
    if task.implementation == FLOOR:
        learners: dict[str, Learn] = {FLOOR: lambda w, pre, post: [w.clamp_(0, 1) for _ in pre]}
    elif task.implementation == neurons.OURS:
        learners = rules()
    else:
        learners = neurons.baseline(task.implementation).stdp()

    def run(learn: Learn) -> Tensor:
        w.copy_(start)
        with torch.no_grad():
            learn(w, pre, post)
        return w

    first = next(iter(learners.values()))
    facts = {"mean weight": run(first).double().mean().item()}
    return Prepared({name: lambda learn=learn: run(learn) for name, learn in learners.items()}, facts)
