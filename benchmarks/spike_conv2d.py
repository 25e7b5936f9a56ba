"""A convolution of spikes, ``N x C x H x W x O x kernel``, with half a kernel of padding, by the share that spikes.

``conv2d`` is PyTorch's, of channels-last images, too. The gradient is that of the weights; that of images is the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((512, 32, 14, 14, 32, 3), (800, 12, 12, 12, 64, 5), (128, 64, 16, 16, 64, 3))
QUICK_SHAPES = ((2, 3, 5, 5, 4, 3),)
FLOOR = "conv2d"
BASELINES = ("events",)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)


def prepare(task: Task) -> Prepared:
    import snnfast

    n, c, h, w, outputs, kernel = task.shape
    padding, like = kernel // 2, {"device": task.device, "dtype": task.torch_dtype}
    torch.manual_seed(0)
    weight = torch.randn(outputs, c, kernel, kernel, **like).requires_grad_()

    def run(x: torch.Tensor) -> torch.Tensor:
        if task.implementation == FLOOR:
            return functional.conv2d(x, weight, padding=padding)
        method = "auto" if task.implementation == neurons.OURS else task.implementation
        return snnfast.ops.spike_conv2d(x, weight, padding=padding, method=method)

    passes: dict[str, Callable[[], object]] = {}
    for share in SHARES:
        x = (torch.rand(n, h, w, c, **like) < share).to(**like).permute(0, 3, 1, 2)
        y = run(x)
        grad = torch.randn(n, *y.shape[2:], outputs, **like).permute(0, 3, 1, 2)

        def forward(x: torch.Tensor = x) -> object:
            with torch.no_grad():
                return run(x)

        def gradient(y: torch.Tensor = y, grad: torch.Tensor = grad) -> object:
            return torch.autograd.grad(y, weight, grad, retain_graph=True)

        passes |= {f"forward, {100 * share:g} %": forward, f"gradient, {100 * share:g} %": gradient}
    return Prepared(passes, {})
