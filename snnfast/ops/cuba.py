"""Current-based LIF neurons, fused over all time steps."""

from __future__ import annotations

from torch import Tensor

from snnfast import backend, check, reference
from snnfast.surrogate import Surrogate, SurrogateLike, resolve

from .scan import Dynamics, run


def cuba(
    x: Tensor,
    v: Tensor | None = None,
    i: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    tau_syn: float | Tensor | None = None,
    decay_syn: float | Tensor | None = None,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    v_rest: float | None = None,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """LIF neurons driven by a synaptic current that decays exponentially, over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        i[t] = decay_syn i[t-1] + x[t]
        h[t] = v_rest + decay (v[t-1] - v_rest) + gain i[t]

    then spike and reset as in :func:`snnfast.ops.lif` (Gerstner et al., Neuronal Dynamics, section 1.3; NIR's
    ``CubaLIF``). Gradients flow to ``x``, ``v``, ``i``, both decays and ``v_threshold``.

    Args:
        x: synaptic input ``[T, ...]``; float32, float64, bfloat16 or float16, any strides.
        v: membrane before the first step, ``x.shape[1:]``; ``v_rest`` if None.
        i: synaptic current before the first step, ``x.shape[1:]``; 0 if None.
        tau: membrane time constant in steps, at least 1; 2.0 if neither ``tau`` nor ``decay`` is given.
        decay: ``1 - 1/tau`` instead of ``tau``, in [0, 1].
        tau_syn: synaptic time constant in steps, at least 1; 2.0 if neither ``tau_syn`` nor ``decay_syn`` is given.
        decay_syn: ``1 - 1/tau_syn`` instead of ``tau_syn``, in [0, 1]. All four may be tensors that broadcast to
            ``x.shape[1:]``.
        decay_input: scale the current by ``1 - decay``.
        v_threshold: threshold; a number or a tensor like ``decay``.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead.
        v_rest: where the membrane decays to; ``v_reset``, or 0 with soft reset, if None.
        surrogate: name, :class:`snnfast.surrogate.Surrogate`, or a callable ``u -> spikes`` (runs in the reference).
        detach_reset: no gradient through the spike into the reset.
        return_state: return the last membrane and current; without it they are None.
        return_v_seq: also return the membrane after every step.

    Returns:
        ``(spikes, v, i)``, with ``return_v_seq`` ``(spikes, v, i, v_seq)``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    check.sequence("cuba", x)
    surrogate = resolve(surrogate)
    kernels = backend.library("cuba", x, surrogate)
    if kernels is None or not isinstance(surrogate, Surrogate):
        return reference.cuba(
            x,
            v,
            i,
            tau=tau,
            decay=decay,
            tau_syn=tau_syn,
            decay_syn=decay_syn,
            decay_input=decay_input,
            v_threshold=v_threshold,
            v_reset=v_reset,
            v_rest=v_rest,
            surrogate=surrogate,
            detach_reset=detach_reset,
            return_state=return_state,
            return_v_seq=return_v_seq,
        )
    check.state("cuba", "v", v, x)
    check.state("cuba", "i", i, x)
    decay = check.decay("cuba", "decay", tau, decay, 2.0, x)
    decay_syn = check.decay("cuba", "decay_syn", tau_syn, decay_syn, 2.0, x)
    v_threshold = check.parameter("cuba", "v_threshold", v_threshold, x)
    v_reset, v_rest = check.rest("cuba", v_reset, v_rest)
    dynamics = Dynamics(
        bool(decay_input), v_reset, v_rest, True, bool(return_state), bool(return_v_seq)
    )
    spikes, v_out, i_out, v_seq = run(
        kernels,
        "cuba",
        x,
        [v, i],
        [decay, v_threshold, decay_syn],
        dynamics,
        surrogate,
        bool(detach_reset),
    )
    result = (spikes, v_out, i_out) if return_state else (spikes, None, None)
    return (*result, v_seq) if return_v_seq else result  # type: ignore[return-value]
