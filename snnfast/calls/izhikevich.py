"""Calls of Izhikevich's neurons."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .neuron import membrane, neuron_op, spiking
from .qif import qif


class IzhikevichCall(NamedTuple):
    """See :func:`izhikevich`."""

    x: Tensor
    v: Tensor | None
    w: Tensor | None
    rate: Parameter
    gain: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    a0: Parameter
    v_c: Parameter
    decay_w: Parameter
    rate_w: Parameter
    a: Parameter
    b: Parameter
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron_op(qif)
def izhikevich(
    x: Tensor,
    v: Tensor | None = None,
    w: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    a0: float | Tensor = 1.0,
    v_c: float | Tensor = 0.8,
    tau_w: float | Tensor | None = None,
    decay_w: float | Tensor | None = None,
    a: float | Tensor = 0.1,
    b: float | Tensor = 0.1,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> IzhikevichCall:
    """Izhikevich's neurons: a quadratic membrane with a recovery variable, over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v[t-1] + 1/tau a0 (v[t-1] - v_rest) (v[t-1] - v_c) + gain (x[t] - w[t-1])
        s[t], v[t] = spike and reset of lif
        w[t] = decay_w w[t-1] + 1/tau_w a (h[t] - v_rest) + b s[t]

    with ``decay = 1 - 1/tau``, ``gain = 1/tau`` if ``decay_input`` else 1, and ``decay_w = 1 - 1/tau_w``
    (Izhikevich, Simple model of spiking neurons, IEEE Transactions on Neural Networks 14, 2003; the discretisation is
    that of SpikingJelly's ``IzhikevichNode``). Gradients flow to ``x``, ``v``, ``w`` and every parameter that is a
    tensor, also through ``w`` from step to step.

    Args:
        w: recovery variable before the first step, ``x.shape[1:]``; 0 if None.
        tau_w: time constant of the recovery variable in steps, at least 1; 10.0 if neither it nor ``decay_w`` is given.
        decay_w: ``1 - 1/tau_w`` instead of ``tau_w``, in [0, 1].
        a: strength with which the membrane drives ``w``.
        b: increase of ``w`` by a spike.
        detach_reset: no gradient through the spike into the reset of the membrane; that into ``w`` stays.
        return_state: return the last membrane and recovery variable; without it they are None.

    Returns:
        ``(spikes, v, w)``, with ``return_v_seq`` ``(spikes, v, w, v_seq)``.
    """
    op = "izhikevich"
    check.sequence(op, x)
    check.state(op, "v", v, x)
    check.state(op, "w", w, x)
    leak = check.leak(op, "decay_w", tau_w, decay_w, 10.0, x)
    return IzhikevichCall(
        x=x,
        v=v,
        w=w,
        a0=check.parameter(op, "a0", a0, x, check.at_least_zero),
        v_c=check.parameter(op, "v_c", v_c, x),
        decay_w=leak.decay,
        rate_w=leak.rate,
        a=check.parameter(op, "a", a, x),
        b=check.parameter(op, "b", b, x),
        **membrane(op, x, tau, decay, decay_input, v_threshold, v_reset, v_rest, pulls=True),
        **spiking(op, strict, surrogate, detach_reset, return_state, return_v_seq),
    )
