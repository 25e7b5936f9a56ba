"""A convolution 3 x 3 of small images, ``N x C x H x W`` to ``N x C x H x W``, compared with PyTorch's.

Use ``--dtype bfloat16`` and a processor with AMX: otherwise both are PyTorch's.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((128, 512, 2, 2), (128, 512, 4, 4), (128, 256, 4, 4), (128, 128, 2, 2))
QUICK_SHAPES = ((2, 8, 2, 2),)
FLOOR = "clone"
BASELINES = ("pytorch",)


def prepare(task: Task) -> Prepared:
    import snnfast

    torch.manual_seed(0)
    last = torch.channels_last
    x = torch.randn(task.shape).to(task.device, task.torch_dtype, memory_format=last)
    if task.implementation == FLOOR:
        return Prepared({"forward": x.clone, "forward+backward": x.clone}, {})
    layer = snnfast.nn.PatchConv2d if task.implementation == neurons.OURS else nn.Conv2d
    channels = task.shape[1]
    conv = layer(channels, channels, 3, padding=1, bias=False)
    conv.to(task.device, task.torch_dtype, memory_format=last)  # type: ignore[call-overload]
    x.requires_grad_()
    gradient = torch.randn_like(conv(x))
    return Prepared(
        {
            "forward": lambda: conv(x),
            "forward+backward": lambda: torch.autograd.grad(conv(x), (x, conv.weight), gradient),
        },
        {},
    )
