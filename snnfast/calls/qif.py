"""Calls of quadratic integrate-and-fire neurons."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .lif import lif
from .neuron import membrane, neuron_op, spiking


class QifCall(NamedTuple):
    """See :func:`qif`."""

    x: Tensor
    v: Tensor | None
    rate: Parameter
    gain: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    a0: Parameter
    v_c: Parameter
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron_op(lif)
def qif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    a0: float | Tensor = 1.0,
    v_c: float | Tensor = 0.8,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> QifCall:
    """Quadratic integrate-and-fire neurons over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v[t-1] + 1/tau a0 (v[t-1] - v_rest) (v[t-1] - v_c) + gain x[t]

    with ``decay = 1 - 1/tau`` and ``gain = 1/tau`` if ``decay_input`` else 1, then spike and reset as in
    :func:`snnfast.ops.lif`. Below ``v_c`` the membrane returns to ``v_rest``, above it runs away to a spike (Gerstner
    et al., Neuronal Dynamics, section 5.3; the discretisation is that of SpikingJelly's ``QIFNode``, whose defaults
    ``v_reset=-0.1, v_rest=0.0`` are :func:`snnfast.nn.like`'s). Gradients flow to ``x``, ``v`` and every parameter that
    is a tensor.

    Args:
        a0: curvature, at least 0.
        v_c: the critical voltage; above it the membrane grows until the neuron fires.
        v_threshold: a neuron fires from this membrane on.
        v_rest: the resting potential; ``v_reset``, or 0 with soft reset, if None.

    Returns:
        ``(spikes, v)``, with ``return_v_seq`` ``(spikes, v, v_seq)``.
    """
    op = "qif"
    check.sequence(op, x)
    check.state(op, "v", v, x)
    return QifCall(
        x=x,
        v=v,
        a0=check.parameter(op, "a0", a0, x, check.at_least_zero),
        v_c=check.parameter(op, "v_c", v_c, x),
        **membrane(op, x, tau, decay, decay_input, v_threshold, v_reset, v_rest, pulls=True),
        **spiking(op, strict, surrogate, detach_reset, return_state, return_v_seq),
    )
