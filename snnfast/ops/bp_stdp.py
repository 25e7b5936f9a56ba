"""Dispatch of :func:`snnfast.ops.bp_stdp_` to its kernel."""

from __future__ import annotations

from torch import Tensor

from snnfast import backend
from snnfast.reference.bp_stdp import BpStdpCall
from snnfast.reference.bp_stdp import bp_stdp_ as reference
from snnfast.reference.call import flatten, public_op
from snnfast.reference.presentations import DTYPES

from .in_place import buffer, changed
from .record import Record


@public_op(reference)
def bp_stdp_(op: str, call: BpStdpCall) -> Tensor | None:
    """Change the weights, and return the errors of the presynaptic neurons."""
    kernels = backend.library(op, call.w)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    w = buffer(call.w)
    pre = call.pre if call.pre.dtype in DTYPES else call.pre != 0
    pre, error = pre.detach().contiguous(), call.error.detach().contiguous()
    passed: Tensor = kernels.bp_stdp_(*flatten(call._replace(w=w, pre=pre, error=error)))
    changed((call.w, w))
    return passed if call.return_error else None


def _shapes(call: BpStdpCall) -> Tensor:
    steps, *rest = call.pre.shape
    return call.w.new_empty((steps if call.return_error else 0, *rest))


register = Record(reference, _shapes).register
