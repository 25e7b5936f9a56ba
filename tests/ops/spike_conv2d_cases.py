"""Sizes and images for the tests of ``spike_conv2d``."""

import pytest
import torch
from backends import PRESENT
from torch.utils._python_dispatch import TorchDispatchMode

from snnfast import ops

needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
SIZES = [  # N, C, H, W, O, kernel, padding
    (2, 3, 6, 5, 4, (3, 3), (1, 1)),
    (17, 20, 7, 7, 16, (3, 3), (0, 0)),
    (33, 1, 9, 4, 17, (5, 2), (2, 0)),
    (1, 40, 3, 3, 70, (1, 1), (0, 0)),
    (3, 16, 5, 8, 130, (2, 4), (1, 3)),
    (2, 5, 4, 4, 49, (4, 4), (0, 0)),
    (2, 3, 12, 12, 70, (3, 3), (0, 0)),
    (50, 18, 4, 4, 20, (2, 2), (1, 0)),  # three groups of images; weights are copied 16 inputs at a time
    (70, 70, 2, 2, 20, (3, 3), (1, 1)),  # 16 images together; inputs in three parts
]


def spikes(shape, share=0.3, dtype=torch.float64, graded=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fired = torch.rand(shape, generator=generator) < share
    values = torch.randn(shape, generator=generator, dtype=dtype) if graded else 1
    return (fired * values).to(dtype)


def sample(size, dtype=torch.float64, graded=False):
    n, c, h, w, o, kernel, padding = size
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn((o, c, *kernel), generator=generator, dtype=dtype)
    bias = torch.randn(o, generator=generator, dtype=dtype)
    return spikes((n, c, h, w), dtype=dtype, graded=graded), weight, bias, padding


def events(x, weight, bias=None, *, padding=0, stride=1):
    return ops.spike_conv2d(x, weight, bias, stride=stride, padding=padding, method="events")


class Convolutions(TorchDispatchMode):
    """Count PyTorch's convolutions."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "aten.convolution.default" in str(func)
        return func(*args, **(kwargs or {}))
