"""Calls of exponential integrate-and-fire neurons."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .neuron import firing, neuron


class EifCall(NamedTuple):
    """See :func:`eif`."""

    x: Tensor
    v: Tensor | None
    decay: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    delta_t: Parameter
    theta_rh: Parameter
    decay_input: bool
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron
def eif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    delta_t: float | Tensor = 1.0,
    theta_rh: float | Tensor = 0.8,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> EifCall:
    """Exponential integrate-and-fire neurons over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v[t-1] + (1 - decay) (delta_t exp((v[t-1] - theta_rh) / delta_t) - (v[t-1] - v_rest)) + gain x[t]

    with ``decay = 1 - 1/tau`` and ``gain = 1 - decay`` if ``decay_input`` else 1, then spike and reset as in
    :func:`snnfast.ops.lif` (Gerstner et al., Neuronal Dynamics, section 5.2; the discretisation is that of
    SpikingJelly's ``EIFNode``, whose defaults ``v_reset=-0.1, v_rest=0.0`` are :func:`snnfast.nn.like`'s). The
    exponential is within 3 units in the last place, the same on every device, and grows no more from an exponent of 87
    on (708 in float64). Gradients flow to ``x``, ``v`` and every parameter that is a tensor.

    Args:
        x: input current ``[T, ...]``; float32, float64, bfloat16 or float16, any strides.
        v: membrane before the first step, ``x.shape[1:]``; ``v_rest`` if None.
        tau: membrane time constant in steps, at least 1; 2.0 if neither ``tau`` nor ``decay`` is given.
        decay: ``1 - 1/tau`` instead of ``tau``, in [0, 1].
        delta_t: sharpness of the upstroke, not 0.
        theta_rh: rheobase threshold, at which the upstroke begins.
        decay_input: scale the input by ``1 - decay``.
        v_threshold: a neuron fires from this membrane on. It and every other parameter of the neuron is a number, or a
            tensor that broadcasts to ``x.shape[1:]``, as in :func:`snnfast.ops.lif`.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead.
        v_rest: the resting potential; ``v_reset``, or 0 with soft reset, if None.
        strict: fire only if ``h > v_threshold``, not at it.
        surrogate: name, :class:`snnfast.surrogate.Surrogate`, or a callable ``u -> spikes`` (runs in the reference).
        detach_reset: no gradient through the spike into the reset.
        return_state: return the last states; without it they are None.
        return_v_seq: also return the membrane after every step.

    Returns:
        ``(spikes, v)``, with ``return_v_seq`` ``(spikes, v, v_seq)``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    check.sequence("eif", x)
    check.state("eif", "v", v, x)
    own: dict[str, Any] = {
        "delta_t": check.parameter("eif", "delta_t", delta_t, x, check.not_zero),
        "theta_rh": check.parameter("eif", "theta_rh", theta_rh, x),
    }
    return EifCall(
        x=x,
        v=v,
        **own,
        decay=check.decay("eif", "decay", tau, decay, 2.0, x),
        decay_input=check.flag("eif", "decay_input", decay_input),
        **firing(
            "eif",
            x,
            v_threshold=v_threshold,
            v_reset=v_reset,
            v_rest=v_rest,
            strict=strict,
            surrogate=surrogate,
            detach_reset=detach_reset,
            return_state=return_state,
            return_v_seq=return_v_seq,
        ),
    )
