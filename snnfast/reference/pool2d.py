"""Pooling, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from snnfast import check

from .call import reference_op

OP = "pool2d"


Method = Literal["max", "average"]


METHODS = get_args(Method)


class Pool2dCall(NamedTuple):
    """See :func:`pool2d`."""

    x: Tensor
    kernel_h: int
    kernel_w: int
    average: bool


def _pool2d(call: Pool2dCall) -> Tensor:
    windows = call.x.unfold(2, call.kernel_h, call.kernel_h).unfold(3, call.kernel_w, call.kernel_w)
    if call.average:
        return windows.mean((4, 5))
    best, *others = windows.flatten(4).unbind(4)
    for value in others:
        best = torch.where((value > best) | value.isnan(), value, best)
    return best


@reference_op(_pool2d)
def pool2d(x: Tensor, kernel: int | Sequence[int], *, method: Method = "max") -> Pool2dCall:
    """Pooling over windows without overlap: PyTorch's ``max_pool2d`` or ``avg_pool2d``.

    That is, for windows of ``kernel_h`` rows and ``kernel_w`` columns::

        y[n, c, i, j] = max over r, s of x[n, c, i kernel_h + r, j kernel_w + s]      "max"
        y[n, c, i, j] = sum over r, s of the same / (kernel_h kernel_w)               "average"

    Rows and columns after the last whole window are ignored. Results and gradients are PyTorch's: the gradient of a
    maximum goes to the first pixel that has the maximum (in a window without spikes to its first pixel); a NaN is
    greater than all numbers. The kernels are for the CPU, for channels-last images in float32, bfloat16 or float64 with
    at least 4 channels (2 in float64) and maxima of at most 256 pixels. For the backward pass they save one byte per
    window, the argmax index, and nothing for an average; ``x`` may change. In all other cases, and under
    ``torch.compile``, ``torch.vmap`` and other transforms, PyTorch's function runs.

    Args:
        x: ``[N, C, H, W]``, any values.
        kernel: the size of a window, at most that of the image: a number, or one for rows and one for columns.
        method: ``"max"`` or ``"average"``.

    Returns:
        ``y`` ``[N, C, H // kernel_h, W // kernel_w]``, in the dtype of ``x``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or dtype.
        RuntimeError: for second derivatives and forward-mode differentiation of the kernels.
    """
    check.tensor(OP, "x", x)
    check.dtype(OP, "x", x.dtype, check.FLOATING)
    check.shape(OP, "x", x, "NCHW")
    check.elements(OP, "x", x.shape)
    if 0 in x.shape[1:]:
        raise ValueError(f"{OP}: x must have pixels and channels, got shape {list(x.shape)}")
    sides = (kernel, kernel) if isinstance(kernel, check.INTEGERS) else kernel
    kernel_h, kernel_w = check.sizes(OP, "kernel", sides, 2)
    for name, side, size in zip(("rows", "columns"), (kernel_h, kernel_w), x.shape[2:]):
        if side > size:
            raise ValueError(f"{OP}: kernel must have at most the image's {size} {name}, got {side}")
    check.choice(OP, "method", method, METHODS)
    return Pool2dCall(x, kernel_h, kernel_w, method == "average")
