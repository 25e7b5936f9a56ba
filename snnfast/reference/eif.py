"""Exponential integrate and fire: Gerstner et al., Neuronal Dynamics, section 5.2."""

from __future__ import annotations

from snnfast.check import not_zero

from .exp import exp_upstroke
from .lif import lif
from .neuron import ONE_SPIKE, Number, neuron


@neuron(lif, fixed=ONE_SPIKE, prefetch=True)
def eif(
    fire, x, v, *, rate, gain, v_threshold, v_rest, delta_t=Number(1.0, not_zero), theta_rh=0.8
):  # fmt: skip
    """Exponential integrate-and-fire neurons over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v[t-1] + 1/tau (delta_t exp((v[t-1] - theta_rh) / delta_t) - (v[t-1] - v_rest)) + gain x[t]

    with ``decay = 1 - 1/tau`` and ``gain = 1/tau`` if ``decay_input`` else 1, then spike and reset as in
    :func:`snnfast.ops.lif` (Gerstner et al., Neuronal Dynamics, section 5.2; the discretisation is that of
    SpikingJelly's ``EIFNode``, whose defaults ``v_reset=-0.1, v_rest=0.0`` are :func:`snnfast.nn.like`'s). The
    exponential is within 3 units in the last place, the same on every device, and constant for exponents above 87 (708
    in float64). Gradients flow to ``x``, ``v`` and every parameter that is a tensor.

    Args:
        delta_t: sharpness of the upstroke, not 0.
        theta_rh: rheobase threshold, at which the upstroke begins.
        v_threshold: threshold of the membrane.
        v_rest: the resting potential; ``v_reset``, or 0 with soft reset, if None.

    Returns:
        ``(spikes, v)``, with ``return_v_seq`` ``(spikes, v, v_seq)``.
    """
    pull = rate * (exp_upstroke(v - theta_rh, delta_t) - (v - v_rest))
    s, _, v = fire(v + pull + gain * x, v_threshold)
    return s, v
