"""Dispatch of :func:`snnfast.ops.batch_norm` to its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snnfast import backend
from snnfast.check import state_dtype
from snnfast.reference.batch_norm import BatchNormCall
from snnfast.reference.batch_norm import batch_norm as reference
from snnfast.reference.call import extended, flatten, public_op

from .autograd import traced
from .record import GradientRecord

_WANTED = ("x_wanted", "weight_wanted", "bias_wanted")
BackwardBatchNormCall = extended(
    BatchNormCall, "BackwardBatchNormCall", {"of_batch": bool, "grad_y": Tensor, **dict.fromkeys(_WANTED, bool)}
)
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
# Channels-last formats of images and volumes. For [B, C] with fewer than _MANY values PyTorch is faster.
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
_MANY = 2**18


@public_op(reference)
def batch_norm(op: str, call: BatchNormCall) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the normalisation by a kernel, PyTorch or the reference."""
    kernels = backend.library(op, call.x)
    if kernels is None or call.x.shape[1] == 0:
        return reference.equation(call)  # type: ignore[no-any-return]
    if kernels is not torch.ops.snnfast or not has_kernel(call.x):
        return _by_pytorch(call)
    return _RECORD.run(kernels, flatten(call), recorded=False)  # type: ignore[no-any-return]


def has_kernel(x: Tensor) -> bool:
    """Return whether there is a kernel for such an input, and the backend lets it run."""
    return (
        backend.extension is not None
        and backend.forced() != "reference"
        and not traced()
        and x.is_cpu
        and x.dtype in _DTYPES
        and x.dim() in (2, *_LAYOUTS)
        and x.shape[1] > 1  # one channel is contiguous, too
        and (x.dim() > 2 or x.numel() >= _MANY)
        and x.is_contiguous(memory_format=_LAYOUTS.get(x.dim(), torch.contiguous_format))
    )


def _by_pytorch(call: BatchNormCall) -> tuple[Tensor, Tensor, Tensor]:
    x, *parameters, eps = call
    if x.is_cpu:  # PyTorch sums channels-last images less precisely
        x = x.contiguous()
    state = state_dtype(x.dtype)
    weight, bias, mean, var = (None if p is None else p.to(state) for p in parameters)
    if mean is not None and var is not None:
        y = functional.batch_norm(x, mean, var, weight, bias, eps=eps)
        return y, mean.double(), var.double()
    # With a momentum of 1 running statistics become those of the batch.
    mean, var = (x.new_zeros(x.shape[1], dtype=state) for _ in range(2))
    y = functional.batch_norm(x, mean, var, weight, bias, True, 1.0, eps)
    n = x.numel() // x.shape[1]
    return y, mean.double(), var.double() * ((n - 1) / n)


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x.movedim(1, -1), memory_format=torch.contiguous_format).movedim(-1, 1)


def _shapes(call: BatchNormCall) -> tuple[Tensor, ...]:
    x = call.x
    return _like(x), *(x.new_empty(x.shape[1], dtype=torch.float64) for _ in range(2))


def _backward_shapes(call: Any) -> tuple[Tensor, ...]:
    x = call.x
    grads = (x.new_empty(x.shape[1], dtype=(x if p is None else p).dtype) for p in (call.weight, call.bias))
    wanted = (getattr(call, name) for name in _WANTED)
    return tuple(g if w else x.new_empty(0) for g, w in zip((_like(x), *grads), wanted))


def _save(flat: Sequence[Any], results: Sequence[Tensor], wanted: Sequence[bool] | None) -> list[Any]:
    """Return the first arguments of the backward operator: with the statistics, and whether they are the batch's."""
    x, weight, bias, mean, _, eps = flat
    _, *statistics = results
    return [x, weight, bias, *statistics, eps, mean is None]


_RECORD = GradientRecord(
    reference,
    _shapes,
    _save,
    tensors=(0, 1, 2),
    returned=3,
    backward_call=BackwardBatchNormCall,
    backward_shapes=_backward_shapes,
    cpu_only=True,
)
register = _RECORD.register
