"""Dispatch of :func:`snnfast.ops.spike_count` to its kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.check import state_dtype
from snnfast.reference.call import flatten, public_op, unflatten
from snnfast.reference.spike_count import SpikeCountCall
from snnfast.reference.spike_count import spike_count as reference

from .layout import dense_order, inverse, one_by_one, parameter_run, permute_neurons


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


def register(namespace: str) -> None:
    """Make the kernel in ``namespace`` traceable without data, and usable under ``torch.vmap``."""

    @torch.library.register_fake(f"{namespace}::spike_count")
    def _(*flat: Any) -> tuple[Tensor, Tensor]:
        x = unflatten(SpikeCountCall, flat).x
        v = x.new_empty(x.shape[1:], dtype=state_dtype(x.dtype))
        return v.clone(), v

    torch.library.register_vmap(f"{namespace}::spike_count", one_by_one(getattr(torch.ops, namespace).spike_count))
