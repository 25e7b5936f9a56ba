"""Dispatch of :func:`snnfast.ops.integer_lif` to its kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.call import flatten, public_op
from snnfast.reference.integer_lif import IntegerLifCall
from snnfast.reference.integer_lif import integer_lif as reference

from .layout import dense_order, inverse, one_by_one, permute_neurons
from .record import Record


@public_op(reference)
def integer_lif(op: str, call: IntegerLifCall) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the neurons by the kernel, or in plain PyTorch."""
    kernels = backend.library(op, call.x)
    if kernels is not torch.ops.snnfast or not call.x.is_cpu:
        return reference.equation(call)  # type: ignore[no-any-return]
    order = dense_order(call.x)
    if order is None:
        x = call.x if call.x[:1].is_contiguous() else call.x.contiguous()
        return kernels.integer_lif(*flatten(call._replace(x=x)))  # type: ignore[no-any-return]
    moved: Any = permute_neurons(call.v, order)
    call = call._replace(x=call.x.permute(order), v=moved, channel=order.index(call.channel))
    y, v, saturated = kernels.integer_lif(*flatten(call))
    back = inverse(order)
    return y.permute(back), permute_neurons(v, back), saturated  # type: ignore[return-value]


def _shapes(call: IntegerLifCall) -> tuple[Tensor, Tensor, Tensor]:
    y = call.x.new_empty(call.x.shape, dtype=torch.int32 if call.reads else torch.int8)
    return y, call.x.new_empty(call.x.shape[1:]), call.x.new_empty((), dtype=torch.int64)


register = Record(reference, _shapes, cpu_only=True, vmap=one_by_one).register
