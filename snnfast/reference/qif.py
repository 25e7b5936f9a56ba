"""Quadratic integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.3."""

from __future__ import annotations

from snnfast.check import at_least_zero

from .lif import lif
from .neuron import ONE_SPIKE, Number, neuron


@neuron(lif, fixed=ONE_SPIKE, prefetch=True)
def qif(
    fire, x, v, *, rate, gain, v_threshold, v_rest, a0=Number(1.0, at_least_zero), v_c=0.8
):  # fmt: skip
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
        v_threshold: threshold of the membrane.
        v_rest: the resting potential; ``v_reset``, or 0 with soft reset, if None.

    Returns:
        ``(spikes, v)``, with ``return_v_seq`` ``(spikes, v, v_seq)``.
    """
    pull = a0 * ((v - v_rest) * (v - v_c))
    h = v + rate * pull + gain * x
    s, _, v = fire(h, v_threshold)
    return s, v
