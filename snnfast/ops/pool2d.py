"""Dispatch of :func:`snnfast.ops.pool2d` to its kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snnfast import backend
from snnfast.reference.call import flatten, public_op
from snnfast.reference.pool2d import Pool2dCall
from snnfast.reference.pool2d import pool2d as reference

from .autograd import traced
from .record import GradientRecord

# Channels of the narrowest vector, by the dtypes that have kernels.
_CHANNELS = {torch.float32: 4, torch.float64: 2, torch.bfloat16: 4}
# Most pixels in the window of a maximum: the argmax indices are bytes.
_MOST_PIXELS = 256


@public_op(reference)
def pool2d(op: str, call: Pool2dCall) -> Tensor:
    """Compute the pooling by a kernel, PyTorch or the reference."""
    kernels = backend.library(op, call.x)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    x = call.x
    if kernels is not torch.ops.snnfast or not has_kernel(*call):
        pool = functional.avg_pool2d if call.average else functional.max_pool2d
        return pool(x, (call.kernel_h, call.kernel_w))
    y, *_ = _RECORD.run(kernels, flatten(call), recorded=False)
    return y  # type: ignore[no-any-return]


def has_kernel(x: Tensor, kernel_h: int, kernel_w: int, average: bool) -> bool:
    """Return whether there is a kernel for such images and windows."""
    return (
        not traced()
        and x.is_cpu
        and x.shape[1] >= _CHANNELS.get(x.dtype, math.inf)
        and (average or kernel_h * kernel_w <= _MOST_PIXELS)
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _empty(x: Tensor, rows: int, columns: int) -> Tensor:
    return x.new_empty((len(x), rows, columns, x.shape[1])).permute(0, 3, 1, 2)


def _shapes(call: Pool2dCall) -> tuple[Tensor, Tensor]:
    x = call.x
    y = _empty(x, x.shape[2] // call.kernel_h, x.shape[3] // call.kernel_w)
    shape = (0,) if call.average else y.permute(0, 2, 3, 1).shape
    return y, x.new_empty(shape, dtype=torch.uint8)


def _save(flat: Sequence[Any], results: Sequence[Tensor], wanted: Sequence[bool] | None) -> list[Any]:
    """Return the arguments of the backward operator but the gradient: of ``x`` it needs the shape, and no values."""
    x, *more = flat
    _, indices = results
    return [x.new_empty(1).expand(x.shape), *more, indices]


_RECORD = GradientRecord(
    reference,
    _shapes,
    _save,
    lambda kernel, saved, grads, wanted: (kernel(*saved, *grads),),
    tensors=(0,),
    backward_shapes=lambda call: _empty(call.x, *call.x.shape[2:]),
    cpu_only=True,
)
register = _RECORD.register
