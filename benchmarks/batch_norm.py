"""Batch normalisation, ``N x C x H x W``: ``ops.batch_norm`` of channels-last images, compared with PyTorch's.

``pytorch`` normalises the same images, ``contiguous`` contiguous ones. Training uses the statistics of the batch,
evaluation stored ones; gradients are those of images, weight and bias.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((512, 32, 28, 28), (128, 64, 28, 28), (512, 64, 8, 8), (128, 512, 4, 4))
QUICK_SHAPES = ((2, 8, 4, 4),)
FLOOR = "clone"
BASELINES = ("pytorch", "contiguous")


def prepare(task: Task) -> Prepared:
    import snnfast

    def ours(x: Tensor, weight: Tensor, bias: Tensor, *stored: Tensor) -> Tensor:
        return snnfast.ops.batch_norm(x, weight, bias, *stored)[0]

    def pytorch(x: Tensor, weight: Tensor, bias: Tensor, *stored: Tensor) -> Tensor:
        statistics = stored or (None, None)
        return functional.batch_norm(x, *statistics, weight, bias, training=not stored)

    like = {"device": task.device, "dtype": task.torch_dtype}
    generator = torch.Generator(task.device).manual_seed(0)
    x = 1 + torch.randn(task.shape, generator=generator, **like)
    if task.implementation != "contiguous":
        x = x.contiguous(memory_format=torch.channels_last)
    settings: dict[str, tuple[Tensor, ...]] = {
        "training": (),
        "evaluation": (torch.ones(task.shape[1], **like), torch.ones(task.shape[1], **like)),
    }
    if task.implementation == FLOOR:
        names = (f"{name} {part}" for name in settings for part in ("forward", "gradient"))
        return Prepared(dict.fromkeys(names, x.clone), {})
    implementations = {neurons.OURS: ours, "pytorch": pytorch, "contiguous": pytorch}
    run = neurons.chosen(task.implementation, implementations)
    leaves = [x, *(torch.ones(task.shape[1], **like) for _ in range(2))]
    passes: dict[str, Callable[[], object]] = {}
    for name, stored in settings.items():
        passes[f"{name} forward"] = torch.no_grad()(partial(run, *leaves, *stored))
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    for name, stored in settings.items():
        y = run(*leaves, *stored)
        grad = torch.randn_like(y)
        passes[f"{name} gradient"] = partial(torch.autograd.grad, y, leaves, grad, retain_graph=True)
    return Prepared(passes, {})
