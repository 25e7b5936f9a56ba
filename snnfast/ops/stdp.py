"""Dispatch of :func:`snnfast.ops.stdp_` to its kernel."""

from __future__ import annotations

from snnfast import backend
from snnfast.reference.call import flatten, public_op
from snnfast.reference.plasticity import OwnConstants
from snnfast.reference.stdp import StdpCall, StdpState
from snnfast.reference.stdp import stdp_ as reference

from . import own_rule
from .in_place import buffer, changed
from .record import Record


@public_op(reference)
def stdp_(op: str, call: StdpCall) -> StdpState:
    """Change the weights, and return the state after the last step."""
    if isinstance(call.rule, OwnConstants):
        return own_rule.run(op, call, call.rule, reference)
    kernels = backend.library(op, call.w)
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    w = buffer(call.w)
    kernels.stdp_(*flatten(call._replace(w=w, pre=call.pre.detach(), post=call.post.detach())))
    changed((call.w, w))
    return call.state


register = Record(reference, lambda call: None).register
