"""A convolution of spikes, ``N x C x H x W x O x kernel x stride``, by the share of spikes; padded by half a kernel.

``conv2d`` is PyTorch's, also of channels-last images. The gradient of the weights is for a dense ``dL/dy``, that of
images for one with the same share of values that are not 0; for strides other than 1 it is PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = (
    *((512, 32, 14, 14, 32, 3, 1), (800, 12, 12, 12, 64, 5, 1), (128, 64, 16, 16, 64, 3, 1)),
    *((256, 32, 28, 28, 64, 3, 2), (64, 64, 16, 16, 128, 3, 2), (64, 256, 4, 4, 512, 3, 2)),
    *((16, 512, 2, 2, 512, 3, 1), (64, 512, 2, 2, 512, 3, 1), (16, 256, 4, 4, 256, 3, 1)),
)
QUICK_SHAPES = ((2, 3, 5, 5, 4, 3, 1), (2, 3, 5, 5, 4, 3, 2))
FLOOR = "conv2d"
BASELINES = ("events",)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)


def prepare(task: Task) -> Prepared:
    import snnfast

    n, c, h, w, outputs, kernel, stride = task.shape
    padding, like = kernel // 2, {"device": task.device, "dtype": task.torch_dtype}
    torch.manual_seed(0)
    weight = torch.randn(outputs, c, kernel, kernel, **like).requires_grad_()
    if task.implementation == FLOOR:
        run = partial(functional.conv2d, stride=stride, padding=padding)
    else:
        method = "auto" if task.implementation == neurons.OURS else task.implementation
        run = partial(snnfast.ops.spike_conv2d, stride=stride, padding=padding, method=method)

    passes: dict[str, Callable[[], object]] = {}
    for share in SHARES:
        x = (torch.rand(n, h, w, c, **like) < share).to(**like).permute(0, 3, 1, 2)
        y = run(x, weight)
        grad = torch.randn(n, *y.shape[2:], outputs, **like)
        sparse = grad * (torch.rand(grad.shape, **like) < share)
        grad, sparse = (g.permute(0, 3, 1, 2) for g in (grad, sparse))
        images = x.detach().requires_grad_()
        name = f"{100 * share:g} %"
        passes[f"forward, {name}"] = torch.no_grad()(partial(run, x, weight))
        passes[f"gradient of the weights, {name}"] = partial(torch.autograd.grad, y, weight, grad, retain_graph=True)
        passes[f"gradient of images, {name}"] = partial(
            torch.autograd.grad, run(images, weight.detach()), images, sparse, retain_graph=True
        )
    return Prepared(passes, {})
