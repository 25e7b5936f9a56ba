"""Pooling of spikes by windows of 2 x 2, ``N x C x H x W``, channels-last, beside PyTorch's."""

from __future__ import annotations

from collections.abc import Callable

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
        return Prepared(dict.fromkeys(names("forward", "gradient"), x.clone), {})
    passes: dict[str, Callable[[], object]] = {}
    leaf = x.requires_grad_()
    for method, pytorch in PYTORCH.items():

        def run(x: torch.Tensor, method: str = method, pytorch: object = pytorch) -> torch.Tensor:
            if task.implementation == neurons.OURS:
                return snnfast.ops.pool2d(x, 2, method=method)
            return pytorch(x, 2)

        y = run(leaf)
        grad = torch.randn_like(y)

        def forward(run: Callable[[torch.Tensor], torch.Tensor] = run) -> object:
            with torch.no_grad():
                return run(leaf)

        def gradient(y: torch.Tensor = y, grad: torch.Tensor = grad) -> object:
            return torch.autograd.grad(y, leaf, grad, retain_graph=True)

        passes |= {f"{method} forward": forward, f"{method} gradient": gradient}
    return Prepared(passes, {})


def names(*passes: str) -> list[str]:
    return [f"{method} {name}" for method in PYTORCH for name in passes]
