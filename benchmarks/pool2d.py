"""Pooling of spikes by windows of 2 x 2, ``N x C x H x W``, channels-last, compared with PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((512, 32, 28, 28), (512, 32, 14, 14), (3200, 12, 24, 24))
QUICK_SHAPES = ((2, 8, 4, 4),)
FLOOR = "clone"
BASELINES = ("pytorch",)
PYTORCH = {"max": functional.max_pool2d, "average": functional.avg_pool2d}


def prepare(task: Task) -> Prepared:
    import snnfast

    like = {"device": task.device, "dtype": task.torch_dtype}
    generator = torch.Generator(task.device).manual_seed(0)
    x = (torch.rand(task.shape, generator=generator, device=task.device) < 0.1).to(**like)
    x = x.contiguous(memory_format=torch.channels_last)
    if task.implementation == FLOOR:
        names = (f"{method} {name}" for method in PYTORCH for name in ("forward", "gradient"))
        return Prepared(dict.fromkeys(names, x.clone), {})
    x.requires_grad_()
    passes: dict[str, Callable[[], object]] = {}
    for method, pytorch in PYTORCH.items():
        ours = partial(snnfast.ops.pool2d, method=method)
        run = partial(ours if task.implementation == neurons.OURS else pytorch, x, 2)
        passes[f"{method} forward"] = torch.no_grad()(run)
        y = run()
        passes[f"{method} gradient"] = partial(torch.autograd.grad, y, x, torch.randn_like(y), retain_graph=True)
    return Prepared(passes, {})
