"""Dispatch of :func:`snnfast.ops.poisson` to its kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.call import flatten, public_op, unflatten
from snnfast.reference.poisson import PoissonCall
from snnfast.reference.poisson import poisson as reference


@public_op(reference)
def poisson(op: str, call: PoissonCall) -> Tensor:
    """Spikes ``[num_steps, *p.shape]``."""
    kernels = backend.library(op, call.p)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    return kernels.poisson(*flatten(call))  # type: ignore[no-any-return]


def register(namespace: str) -> None:
    """Make the kernel in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::poisson")
    def _(*flat: Any) -> Tensor:
        call = unflatten(PoissonCall, flat)
        return call.p.new_empty((call.num_steps, *call.p.shape), dtype=call.dtype)
