"""Dispatch of :func:`snnfast.ops.spike_linear` to its kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import backend
from snnfast.reference.call import extended, flatten, public_op
from snnfast.reference.spike_linear import SpikeLinearCall, result_dtype
from snnfast.reference.spike_linear import spike_linear as reference

from .autograd import traced
from .layout import one_by_one
from .record import GradientRecord

_WANTED = ("x_wanted", "weight_wanted", "bias_wanted")
BackwardSpikeLinearCall = extended(
    SpikeLinearCall,
    "BackwardSpikeLinearCall",
    {"bits": Tensor, "found": Tensor, "grad_y": Tensor, **dict.fromkeys(_WANTED, bool)},
)
# Index in the kernel's `found` of the number of elements that are neither 0 nor 1; csrc/ops/spike_linear.cpp.
_OTHERS = 1


@public_op(reference)
def spike_linear(op: str, call: SpikeLinearCall) -> Tensor:
    """Compute the product by a kernel, PyTorch or the reference."""
    kernels = backend.library(op, call.x)
    x, weight, bias, _ = call
    if kernels is None and not torch.compiler.is_exporting():
        return reference.equation(call)  # type: ignore[no-any-return]
    # A program that is exported without the kernels has one product, not one for each input.
    if kernels is not torch.ops.snnfast or not x.is_cpu:
        return exactly(F.linear, x, weight, bias)
    y, *_ = _RECORD.run(kernels, flatten(call), recorded=traced())
    return y  # type: ignore[no-any-return]


def exactly(product: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *more: Any) -> Tensor:
    """Compute a product by PyTorch; for int8 in float64, which represents the sums exactly."""
    if weight.dtype != torch.int8:
        return product(x.to(weight.dtype), weight, bias, *more)
    return product(x.double(), weight.double(), None if bias is None else bias.double(), *more).int()


def _shapes(call: SpikeLinearCall) -> tuple[Tensor, ...]:
    before, words = call.x.shape[:-1], (call.x.shape[-1] + 63) // 64
    return (
        call.weight.new_empty((*before, call.weight.shape[0]), dtype=result_dtype(call.weight.dtype)),
        call.x.new_empty((math.prod(before), words), dtype=torch.int64),
        call.x.new_empty((3,), dtype=torch.int64),
    )


def _backward_shapes(call: Any) -> tuple[Tensor, ...]:
    weight, before = call.weight, call.grad_y.shape[:-1]
    shapes = ((*before, weight.shape[1]), weight.shape, weight.shape[:1])
    return tuple(weight.new_empty(shape if getattr(call, wanted) else (0,)) for shape, wanted in zip(shapes, _WANTED))


def _save(flat: Sequence[Any], results: Sequence[Tensor], wanted: Sequence[bool] | None) -> list[Any]:
    """Return the first arguments of the backward operator, with an empty ``x`` where the bits suffice."""
    x, *more = flat
    _, bits, found = results
    if wanted is not None and type(found) is Tensor:  # fake tensors have no values
        _, weight_wanted, *_ = wanted
        if not (weight_wanted and found.tolist()[_OTHERS]):
            x = x.new_empty(0)
    return [x, *more, bits, found]


_RECORD = GradientRecord(
    reference,
    _shapes,
    _save,
    tensors=(0, 1, 2),
    backward_call=BackwardSpikeLinearCall,
    backward_shapes=_backward_shapes,
    vmap=one_by_one,  # since the share of spikes selects the algorithm
    cpu_only=True,
)
register = _RECORD.register
