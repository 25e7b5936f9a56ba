"""Calls of quadratic integrate-and-fire neurons."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .neuron import firing, neuron


class QifCall(NamedTuple):
    """See :func:`qif`."""

    x: Tensor
    v: Tensor | None
    decay: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    a0: Parameter
    v_c: Parameter
    decay_input: bool
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron
def qif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    a0: float | Tensor = 1.0,
    v_c: float | Tensor = 0.8,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> QifCall:
    """Quadratic integrate-and-fire neurons over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v[t-1] + (1 - decay) a0 (v[t-1] - v_rest) (v[t-1] - v_c) + gain x[t]

    with ``decay = 1 - 1/tau`` and ``gain = 1 - decay`` if ``decay_input`` else 1, then spike and reset as in
    :func:`snnfast.ops.lif`. Below ``v_c`` the membrane returns to ``v_rest``, above it runs away to a spike (Gerstner
    et al., Neuronal Dynamics, section 5.3; the discretisation is that of SpikingJelly's ``QIFNode``, whose defaults
    ``v_reset=-0.1, v_rest=0.0`` are :func:`snnfast.nn.like`'s). Gradients flow to ``x``, ``v`` and every parameter that
    is a tensor.

    Args:
        x: input current ``[T, ...]``; float32, float64, bfloat16 or float16, any strides.
        v: membrane before the first step, ``x.shape[1:]``; ``v_rest`` if None.
        tau: membrane time constant in steps, at least 1; 2.0 if neither ``tau`` nor ``decay`` is given.
        decay: ``1 - 1/tau`` instead of ``tau``, in [0, 1].
        a0: curvature, at least 0.
        v_c: the critical voltage; above it the membrane grows until the neuron fires.
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
    check.sequence("qif", x)
    check.state("qif", "v", v, x)
    own: dict[str, Any] = {
        "a0": check.parameter("qif", "a0", a0, x, check.at_least_zero),
        "v_c": check.parameter("qif", "v_c", v_c, x),
    }
    return QifCall(
        x=x,
        v=v,
        **own,
        decay=check.decay("qif", "decay", tau, decay, 2.0, x),
        decay_input=check.flag("qif", "decay_input", decay_input),
        **firing(
            "qif",
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
