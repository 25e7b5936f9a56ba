"""Dispatch of :func:`snnfast.ops.poisson` to its kernel."""

from __future__ import annotations

from torch import Tensor

from snnfast import backend
from snnfast.reference.call import flatten, public_op
from snnfast.reference.poisson import PoissonCall
from snnfast.reference.poisson import poisson as reference

from .record import Record


@public_op(reference)
def poisson(op: str, call: PoissonCall) -> Tensor:
    """Spikes ``[num_steps, *p.shape]``."""
    kernels = backend.library(op, call.p)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    return kernels.poisson(*flatten(call))  # type: ignore[no-any-return]


def _shapes(call: PoissonCall) -> Tensor:
    return call.p.new_empty((call.num_steps, *call.p.shape), dtype=call.dtype)


register = Record(reference, _shapes).register
