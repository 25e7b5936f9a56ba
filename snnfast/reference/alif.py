"""Adaptive LIF: Bellec et al., Nature Communications 11 (2020)."""

from __future__ import annotations

from .lif import lif
from .neuron import Tau, neuron


@neuron(lif)
def alif(
    fire, x, v, a, *, decay, gain, v_threshold, v_rest, beta=0.2, decay_adapt=Tau(100.0)
):  # fmt: skip
    """LIF neurons with an adaptive threshold, which each spike raises, over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]
        A[t] = v_threshold + beta a[t-1]
        s[t] = 1 if h[t] >= A[t] else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset given)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None), by v_threshold and not by A
        a[t] = decay_adapt a[t-1] + s[t]

    with ``decay = 1 - 1/tau``, ``gain = 1/tau`` if ``decay_input`` else 1, and ``decay_adapt = 1 - 1/tau_adapt``
    (Bellec et al., A solution to the learning dilemma for recurrent networks of spiking neurons, Nature
    Communications 11, 2020, whose ``a`` at step t is ``a[t-1]`` here). Gradients flow to ``x``, ``v``, ``a`` and every
    parameter that is a tensor, also through ``a`` from spike to spike. Refractory periods and several spikes in a step
    are those of :func:`snnfast.ops.lif`.

    Args:
        a: adaptation before the first step, ``x.shape[1:]``; 0 if None.
        beta: factor of the adaptation in the threshold.
        tau_adapt: time constant of the adaptation in steps, at least 1; 100.0 if neither it nor ``decay_adapt`` is
            given.
        decay_adapt: ``1 - 1/tau_adapt`` instead of ``tau_adapt``, in [0, 1].
        v_threshold: threshold of a neuron that has been silent for long.
        detach_reset: no gradient through the spike into the reset of the membrane; that into ``a`` stays.
        return_state: return the last membrane and adaptation; without it they are None.

    Returns:
        ``(spikes, v, a)``, with ``refractory`` then ``r``, with ``return_v_seq`` then ``v_seq``.
    """
    h = v_rest + decay * (v - v_rest) + gain * x
    s, _, v = fire(h, v_threshold + beta * a, v_threshold)
    return s, v, decay_adapt * a + s
