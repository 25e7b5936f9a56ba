"""Leaky integrators, fused over all time steps: :func:`lif`, :func:`iaf` (no leak) and :func:`li` (no spikes)."""

from __future__ import annotations

from torch import Tensor

from snnfast import backend, check, reference
from snnfast.surrogate import Surrogate, SurrogateLike, resolve, straight_through

from .scan import Dynamics, run


def lif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    v_rest: float | None = None,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_v: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """Leaky integrate-and-fire neurons over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset a number)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)

    with ``decay = 1 - 1/tau`` and ``gain = 1 - decay`` if ``decay_input`` else 1 (Gerstner et al., Neuronal Dynamics,
    section 1.3; the discretisation and the names are SpikingJelly's). Gradients flow to ``x``, ``v``, ``decay`` or
    ``tau``, and ``v_threshold``, by backpropagation through time with ``ds/dh`` replaced by the surrogate.

    Args:
        x: input current ``[T, ...]``; float32, float64, bfloat16 or float16, any strides.
        v: membrane before the first step, ``x.shape[1:]``, float64 for float64 ``x``, else float32; ``v_rest`` if None.
        tau: membrane time constant in steps, at least 1; 2.0 if neither ``tau`` nor ``decay`` is given.
        decay: what is left of the membrane after one step, in [0, 1], instead of ``tau``. Both may be tensors that
            broadcast to ``x.shape[1:]`` (one per channel: ``[C, 1, 1]``), in the dtype of ``v``.
        decay_input: scale the input by ``1 - decay``.
        v_threshold: threshold; a number or a tensor like ``decay``.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead.
        v_rest: where the membrane decays to; ``v_reset``, or 0 with soft reset, if None.
        surrogate: name, :class:`snnfast.surrogate.Surrogate`, or a callable ``u -> spikes`` (runs in the reference).
        detach_reset: no gradient through the spike into the reset.
        return_v: return the last membrane; without it the second result is None and nothing of it is written.
        return_v_seq: also return the membrane after every step.

    Returns:
        ``(spikes, v)``, with ``return_v_seq`` ``(spikes, v, v_seq)``: spikes ``[T, ...]`` in the dtype of ``x``, the
        membrane after the last step ``x.shape[1:]``, and after every step ``[T, ...]``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    check.sequence("lif", x)
    surrogate = resolve(surrogate)
    kernels = backend.library("lif", x, surrogate)
    if kernels is None or not isinstance(surrogate, Surrogate):
        return reference.lif(
            x,
            v,
            tau=tau,
            decay=decay,
            decay_input=decay_input,
            v_threshold=v_threshold,
            v_reset=v_reset,
            v_rest=v_rest,
            surrogate=surrogate,
            detach_reset=detach_reset,
            return_v=return_v,
            return_v_seq=return_v_seq,
        )
    check.state("lif", "v", v, x)
    decay = check.decay("lif", "decay", tau, decay, 2.0, x)
    v_threshold = check.parameter("lif", "v_threshold", v_threshold, x)
    v_reset, v_rest = check.rest("lif", v_reset, v_rest)
    dynamics = Dynamics(
        bool(decay_input), v_reset, v_rest, True, bool(return_v), bool(return_v_seq)
    )
    spikes, v_out, v_seq = run(
        kernels, "lif", x, [v], [decay, v_threshold], dynamics, surrogate, bool(detach_reset)
    )
    result = (spikes, v_out if return_v else None)
    return (*result, v_seq) if return_v_seq else result  # type: ignore[return-value]


def iaf(
    x: Tensor,
    v: Tensor | None = None,
    *,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | None = 0.0,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_v: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """Integrate-and-fire neurons: :func:`lif` without leak (``decay = 1``) and without input scaling.

    Arguments and results are those of :func:`lif`.
    """
    return lif(
        x,
        v,
        decay=1.0,
        decay_input=False,
        v_threshold=v_threshold,
        v_reset=v_reset,
        surrogate=surrogate,
        detach_reset=detach_reset,
        return_v=return_v,
        return_v_seq=return_v_seq,
    )


def li(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    decay_input: bool = True,
    v_rest: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Leaky integrators that never fire, a readout: ``v[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]``.

    Arguments are those of :func:`lif`.

    Returns:
        ``(v_seq, v)``: the membrane after every step ``[T, ...]`` and after the last, float64 for float64 ``x``, else
        float32.
    """
    check.sequence("li", x)
    kernels = backend.library("li", x)
    if kernels is None:
        return reference.li(x, v, tau=tau, decay=decay, decay_input=decay_input, v_rest=v_rest)
    check.state("li", "v", v, x)
    decay = check.decay("li", "decay", tau, decay, 2.0, x)
    v_rest = check.number("li", "v_rest", v_rest)
    dynamics = Dynamics(bool(decay_input), None, v_rest, False, True, True)
    _, v_out, v_seq = run(kernels, "lif", x, [v], [decay, 1.0], dynamics, straight_through(), False)
    return v_seq, v_out
