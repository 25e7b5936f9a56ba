"""Calls of exponential integrate-and-fire neurons."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .lif import lif
from .neuron import membrane, neuron_op, spiking


class EifCall(NamedTuple):
    """See :func:`eif`."""

    x: Tensor
    v: Tensor | None
    rate: Parameter
    gain: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    delta_t: Parameter
    theta_rh: Parameter
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron_op(lif)
def eif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    delta_t: float | Tensor = 1.0,
    theta_rh: float | Tensor = 0.8,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> EifCall:
    """Exponential integrate-and-fire neurons over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v[t-1] + 1/tau (delta_t exp((v[t-1] - theta_rh) / delta_t) - (v[t-1] - v_rest)) + gain x[t]

    with ``decay = 1 - 1/tau`` and ``gain = 1/tau`` if ``decay_input`` else 1, then spike and reset as in
    :func:`snnfast.ops.lif` (Gerstner et al., Neuronal Dynamics, section 5.2; the discretisation is that of
    SpikingJelly's ``EIFNode``, whose defaults ``v_reset=-0.1, v_rest=0.0`` are :func:`snnfast.nn.like`'s). The
    exponential is within 3 units in the last place, the same on every device, and grows no more from an exponent of 87
    on (708 in float64). Gradients flow to ``x``, ``v`` and every parameter that is a tensor.

    Args:
        delta_t: sharpness of the upstroke, not 0.
        theta_rh: rheobase threshold, at which the upstroke begins.
        v_threshold: a neuron fires from this membrane on.
        v_rest: the resting potential; ``v_reset``, or 0 with soft reset, if None.

    Returns:
        ``(spikes, v)``, with ``return_v_seq`` ``(spikes, v, v_seq)``.
    """
    op = "eif"
    check.sequence(op, x)
    check.state(op, "v", v, x)
    return EifCall(
        x=x,
        v=v,
        delta_t=check.parameter(op, "delta_t", delta_t, x, check.not_zero),
        theta_rh=check.parameter(op, "theta_rh", theta_rh, x),
        **membrane(op, x, tau, decay, decay_input, v_threshold, v_reset, v_rest, pulls=True),
        **spiking(op, strict, surrogate, detach_reset, return_state, return_v_seq),
    )
