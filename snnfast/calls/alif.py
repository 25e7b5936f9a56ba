"""Calls of adaptive LIF neurons."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .lif import lif
from .neuron import membrane, neuron_op, refractory_call, spiking


class AlifCall(NamedTuple):
    """See :func:`alif`."""

    x: Tensor
    v: Tensor | None
    a: Tensor | None
    decay: Parameter
    gain: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    beta: Parameter
    decay_adapt: Parameter
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron_op(lif)
def alif(
    x: Tensor,
    v: Tensor | None = None,
    a: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    beta: float | Tensor = 0.2,
    tau_adapt: float | Tensor | None = None,
    decay_adapt: float | Tensor | None = None,
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
) -> AlifCall:
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
    op = "alif"
    check.sequence(op, x)
    check.state(op, "v", v, x)
    check.state(op, "a", a, x)
    call = AlifCall(
        x=x,
        v=v,
        a=a,
        beta=check.parameter(op, "beta", beta, x),
        decay_adapt=check.leak(op, "decay_adapt", tau_adapt, decay_adapt, 100.0, x).decay,
        **membrane(op, x, tau, decay, decay_input, v_threshold, v_reset, v_rest),
        **spiking(op, strict, surrogate, detach_reset, return_state, return_v_seq),
    )
    return refractory_call(op, call, r, refractory, max_spikes)
