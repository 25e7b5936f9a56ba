"""Izhikevich's neuron: IEEE Transactions on Neural Networks 14 (2003)."""

from __future__ import annotations

from torch import Tensor

from snnfast.check import Leak, at_least_zero

from .neuron import ONE_SPIKE, Number, Tau, neuron
from .qif import qif


def of_leak(leak_w: Leak) -> float | Tensor:
    """Return the rate with which the membrane drives the recovery variable."""
    return leak_w.rate


@neuron(qif, fixed=ONE_SPIKE, chosen=of_leak, prefetch=True)
def izhikevich(
    fire, x, v, w, *, rate, gain, v_threshold, v_rest,
    a0=Number(1.0, at_least_zero), v_c=0.8, decay_w=Tau(10.0), rate_w, a=0.1, b=0.1
):  # fmt: skip
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
    pull = a0 * ((v - v_rest) * (v - v_c))
    h = v + rate * pull + gain * (x - w)
    s, h, v = fire(h, v_threshold)
    drive = rate_w * (a * (h - v_rest))
    return s, v, decay_w * w + drive + b * s
