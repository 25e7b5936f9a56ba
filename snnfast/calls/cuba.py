"""Calls of current-based neurons: :func:`cuba`, and the readout :func:`cubali` (no spikes)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .lif import lif
from .neuron import membrane, neuron_op, reading, refractory_call, spiking


class CubaCall(NamedTuple):
    """See :func:`cuba`."""

    x: Tensor
    v: Tensor | None
    i: Tensor | None
    decay: Parameter
    gain: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    decay_syn: Parameter
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron_op(lif)
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
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    refractory: int = 0,
    r: Tensor | None = None,
    max_spikes: int | None = 1,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> CubaCall:
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
    op = "cuba"
    check.sequence(op, x)
    check.state(op, "v", v, x)
    check.state(op, "i", i, x)
    call = CubaCall(
        x=x,
        v=v,
        i=i,
        decay_syn=check.leak(op, "decay_syn", tau_syn, decay_syn, 2.0, x).decay,
        **membrane(op, x, tau, decay, decay_input, v_threshold, v_reset, v_rest),
        **spiking(op, strict, surrogate, detach_reset, return_state, return_v_seq),
    )
    return refractory_call(op, call, r, refractory, max_spikes)


@neuron_op(cuba)
def cubali(
    x: Tensor,
    v: Tensor | None = None,
    i: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    tau_syn: float | Tensor | None = None,
    decay_syn: float | Tensor | None = None,
    decay_input: bool = True,
    v_rest: float | Tensor = 0.0,
) -> CubaCall:
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
    op = "cubali"
    check.sequence(op, x)
    check.state(op, "v", v, x)
    check.state(op, "i", i, x)
    return CubaCall(
        x=x,
        v=v,
        i=i,
        decay_syn=check.leak(op, "decay_syn", tau_syn, decay_syn, 2.0, x).decay,
        **reading(op, x, tau, decay, decay_input, v_rest),
    )
