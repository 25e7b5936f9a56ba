"""LIF of a normalised input: Ioffe and Szegedy, ICML 2015, before Gerstner et al., Neuronal Dynamics, section 1.3."""

from __future__ import annotations

from .lif import lif
from .neuron import ONE_SPIKE, neuron


@neuron(lif, fixed=ONE_SPIKE, per_neuron=("scale", "shift"))
def normlif(
    fire, x, v, *, decay, gain, v_threshold, v_rest, scale=1.0, shift=0.0
):  # fmt: skip
    """LIF neurons with the input ``scale x + shift``, over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        y[t] = scale x[t] + shift
        h[t] = v_rest + decay (v[t-1] - v_rest) + gain y[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset given)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)

    with ``decay = 1 - 1/tau`` and ``gain = 1/tau`` if ``decay_input`` else 1. With one scale and one shift for each
    channel ``y`` is a batch normalisation (Ioffe and Szegedy, Batch Normalization, ICML 2015) that is never written to
    memory; :class:`snnfast.nn.NormLIF` computes them. Gradients flow to ``x``, ``v`` and every parameter that is a
    tensor.

    Args:
        scale: factor of the input, one for each channel in ``[C, 1, 1]``.
        shift: added to the scaled input.
    """
    y = scale * x + shift
    h = v_rest + decay * (v - v_rest) + gain * y
    s, _, v = fire(h, v_threshold)
    return s, v
