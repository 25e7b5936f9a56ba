"""Leaky integrate and fire: Gerstner et al., Neuronal Dynamics, section 1.3."""

from __future__ import annotations

from .neuron import READOUT, neuron


@neuron()
def lif(fire, x, v, *, decay, gain, v_threshold, v_rest):
    """Leaky integrate-and-fire neurons over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset given)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)

    with ``decay = 1 - 1/tau`` and ``gain = 1/tau`` if ``decay_input`` else 1; where ``decay`` is given, ``1/tau`` is
    ``1 - decay`` (Gerstner et al., Neuronal Dynamics, section 1.3; the discretisation and the names are
    SpikingJelly's). Gradients flow to ``x``, ``v`` and every
    parameter that is a tensor, by backpropagation through time with ``ds/dh`` replaced by the surrogate.

    With ``refractory=n`` a neuron does not fire for ``n`` steps after a spike: ``h[t] = v[t-1]``, whatever the input,
    and ``s[t] = 0`` where ``r[t-1] > 0``, with ``r[t] = n`` after a spike, else ``max(r[t-1] - 1, 0)``. Other states
    change as usual (Brian2's ``unless refractory``, NEST, Norse). Inputs in these steps have no gradient through the
    membrane. With ``max_spikes=m`` and a soft reset ``s[t] = min(max(floor(h[t] / v_threshold), 0), m)``; the
    surrogate is taken at the nearest multiple of the threshold (Weidel and Sheik 2021; Sinabs' ``MultiSpike`` and
    ``MaxSpike``).

    Args:
        x: input current ``[T, ...]``; float32, float64, bfloat16 or float16, any strides.
        v: membrane before the first step, ``x.shape[1:]``, float64 for float64 ``x``, else float32; ``v_rest`` if None.
        tau: membrane time constant in steps, at least 1; 2.0 if neither ``tau`` nor ``decay`` is given. It and every
            other parameter of the neuron is a number, or a tensor that broadcasts to ``x.shape[1:]`` (one per channel:
            ``[C, 1, 1]``), in the dtype of ``v``.
        decay: ``1 - 1/tau``, in [0, 1], instead of ``tau``.
        decay_input: scale the input by ``1/tau``.
        v_threshold: threshold.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead.
        v_rest: value to which the membrane decays; ``v_reset``, or 0 with soft reset, if None.
        strict: fire only if ``h`` is above the threshold, not at it.
        refractory: number of steps without spikes after a spike.
        r: with ``refractory``: remaining refractory steps before the first step, ``x.shape[1:]``, in the dtype
            of ``v``; 0 if None.
        max_spikes: largest number of spikes in a step; None for any number. More than 1 needs a soft reset.
        surrogate: name, :class:`snnfast.surrogate.Surrogate`, or a callable ``u -> spikes`` (runs in the reference).
        detach_reset: no gradient through the spike into the reset.
        return_state: return the last membrane; without it the second result is None, and no membrane is written.
        return_v_seq: also return the membrane after every step.

    Returns:
        ``(spikes, v)``, with ``refractory`` then ``r``, with ``return_v_seq`` then ``v_seq``: spikes ``[T, ...]`` in
        the dtype of ``x``, the membrane and the remaining refractory steps after the last step ``x.shape[1:]``,
        and the membrane after every step ``[T, ...]``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    h = v_rest + decay * (v - v_rest) + gain * x
    s, _, v = fire(h, v_threshold)
    return s, v


NO_LEAK = {"tau": None, "decay": 1.0, "decay_input": False, "v_rest": None}


@neuron(lif, same=True, fixed=NO_LEAK)
def iaf():
    """Integrate-and-fire neurons: :func:`snnfast.ops.lif` without leak (``decay = 1``) and without input scaling.

    Args:
        v: membrane before the first step, ``x.shape[1:]``, float64 for float64 ``x``, else float32; ``v_reset``, or 0
            with soft reset, if None.
        v_threshold: threshold; it and ``v_reset`` are numbers, or tensors that broadcast to ``x.shape[1:]`` (one per
            channel: ``[C, 1, 1]``), in the dtype of ``v``.
    """


@neuron(lif, same=True, fixed=READOUT)
def li():
    """Leaky integrators that never fire, a readout: ``v[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]``.

    Decay and gain are those of :func:`snnfast.ops.lif`.

    Args:
        v_rest: value to which the membrane decays.

    Returns:
        ``(v_seq, v)``: the membrane after every step ``[T, ...]`` and after the last, float64 for float64 ``x``, else
        float32.
    """
