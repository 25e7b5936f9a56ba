"""Current-based LIF: LIF driven by a synaptic current that decays exponentially."""

from __future__ import annotations

from .lif import lif
from .neuron import READOUT, Tau, neuron


@neuron(lif)
def cuba(fire, x, v, i, *, decay, gain, v_threshold, v_rest, decay_syn=Tau(2.0)):
    """LIF neurons driven by a synaptic current that decays exponentially, over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        i[t] = decay_syn i[t-1] + x[t]
        h[t] = v_rest + decay (v[t-1] - v_rest) + gain i[t]

    then spike and reset as in :func:`snnfast.ops.lif` (Gerstner et al., Neuronal Dynamics, section 1.3; NIR's
    ``CubaLIF``). Gradients flow to ``x``, ``v``, ``i`` and every parameter that is a tensor.

    Args:
        x: synaptic input ``[T, ...]``; float32, float64, bfloat16 or float16, any strides.
        i: synaptic current before the first step, ``x.shape[1:]``; 0 if None.
        tau_syn: synaptic time constant in steps, at least 1; 2.0 if neither ``tau_syn`` nor ``decay_syn`` is given.
        decay_syn: ``1 - 1/tau_syn`` instead of ``tau_syn``, in [0, 1].
        decay_input: scale the current by ``1/tau``.
        return_state: return the last membrane and current; without it they are None.

    Returns:
        ``(spikes, v, i)``, with ``refractory`` then ``r``, with ``return_v_seq`` then ``v_seq``.
    """
    i = decay_syn * i + x
    h = v_rest + decay * (v - v_rest) + gain * i
    s, _, v = fire(h, v_threshold)
    return s, v, i


@neuron(cuba, same=True, fixed=READOUT)
def cubali():
    """Leaky integrators of a synaptic current that never fire, a readout (NIR's ``CubaLI``).

    For every neuron and ``t = 0 ... T-1``::

        i[t] = decay_syn i[t-1] + x[t]
        v[t] = v_rest + decay (v[t-1] - v_rest) + gain i[t]

    Args:
        v_rest: value to which the membrane decays.

    Returns:
        ``(v_seq, v, i)``: the membrane after every step ``[T, ...]``, and membrane and current after the last, float64
        for float64 ``x``, else float32.
    """
