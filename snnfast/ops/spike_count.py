"""Dispatch of :func:`snnfast.ops.spike_count` to its kernel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snnfast import backend
from snnfast.check import state_dtype
from snnfast.reference.call import flatten, public_op
from snnfast.reference.spike_count import SpikeCountCall
from snnfast.reference.spike_count import spike_count as reference

from .layout import dense_order, inverse, one_by_one, parameter_run, permute_neurons
from .record import Record


@public_op(reference)
def spike_count(op: str, call: SpikeCountCall) -> tuple[Tensor, Tensor]:
    """Counts and membranes after the last step."""
    kernels = backend.library(op, call.x)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    order = dense_order(call.x)
    if order is not None:
        names = ("v", "count", "v_threshold")
        moved: Any = {name: permute_neurons(getattr(call, name), order) for name in names}
        call = call._replace(x=call.x.permute(order), **moved)
    if isinstance(call.v_threshold, Tensor):
        call = call._replace(v_threshold=parameter_run(call.v_threshold, call.x.shape[1:]))
    results: tuple[Tensor, Tensor] = kernels.spike_count(*flatten(call))
    if order is None:
        return results
    back = inverse(order)
    return permute_neurons(results[0], back), permute_neurons(results[1], back)  # type: ignore[return-value]


def _shapes(call: SpikeCountCall) -> tuple[Tensor, Tensor]:
    v = call.x.new_empty(call.x.shape[1:], dtype=state_dtype(call.x.dtype))
    return v.clone(), v


register = Record(reference, _shapes, vmap=one_by_one).register
