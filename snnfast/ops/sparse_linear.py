"""Dispatch of :func:`snnfast.ops.sparse_linear` to its kernels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snnfast import backend
from snnfast.reference.call import extended, flatten, public_op
from snnfast.reference.sparse_linear import SparseLinearCall
from snnfast.reference.sparse_linear import sparse_linear as reference

from .autograd import traced
from .layout import one_by_one
from .record import GradientRecord

BackwardSparseLinearCall = extended(
    SparseLinearCall, "BackwardSparseLinearCall", {"grad_y": Tensor, "x_wanted": bool, "weight_wanted": bool}
)


@public_op(reference)
def sparse_linear(op: str, call: SparseLinearCall) -> Tensor:
    """Compute the map by a kernel or the reference."""
    kernels = backend.library(op, call.x)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    return _RECORD.run(kernels, flatten(call), recorded=traced())  # type: ignore[no-any-return]


def _shapes(call: SparseLinearCall) -> Tensor:
    return call.x.new_empty((*call.x.shape[:-1], call.outputs))


def _backward_shapes(call: Any) -> tuple[Tensor, Tensor]:
    x, weight = call.x, call.weight
    return (
        x.new_empty(x.shape if call.x_wanted else (0,)),
        weight.new_empty(weight.shape if call.weight_wanted else (0,)),
    )


_RECORD = GradientRecord(
    reference,
    _shapes,
    tensors=(0, 1),
    backward_call=BackwardSparseLinearCall,
    backward_shapes=_backward_shapes,
    vmap=one_by_one,
)
register = _RECORD.register
