"""Calls of neurons that fire once, and the result_of to them."""

from __future__ import annotations

import math
import warnings
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .call import Parameter

DTYPES = (torch.float32, torch.float64)


class SpikePropCall(NamedTuple):
    """See :func:`spikeprop`; ``dt`` and ``grid_points`` are 0 for exact times."""

    t_in: Tensor
    w: Tensor
    delays: Tensor
    tau: Parameter
    v_threshold: float
    t_max: float
    dt: float
    grid_points: int
    slope_min: float
    return_u_max: bool
    return_slope: bool
    validate: bool


def spikeprop(
    t_in: Tensor,
    w: Tensor,
    delays: Tensor,
    *,
    tau: float | Tensor,
    v_threshold: float = 1.0,
    t_max: float,
    dt: float | None = None,
    slope_min: float = 0.05,
    return_u_max: bool = False,
    return_slope: bool = False,
    validate: bool = True,
) -> SpikePropCall:
    """Times of the first spikes of neurons that are driven by one spike per input, over K delayed terminals each.

    The spike response model of SpikeProp (Bohte, Kok, La Poutré, Neurocomputing 2002, equations 2 to 4)::

        u[b, o](t) = sum over i, k of  w[o, i, k] eps(t - t_in[b, i] - delays[i, k])
        eps(s)     = (s / tau) exp(1 - s / tau) for s > 0, else 0
        t_out[b, o] = the first t <= t_max with u[b, o](t) = v_threshold, inf if there is none

    The time is exact: events are sorted; between two of them ``u`` has a closed form, for which the crossing is solved.
    With ``dt`` it is the first ``t = k dt`` (k = 0, 1, ...) with ``u >= v_threshold`` instead.

    Gradients flow to ``t_in``, ``w``, ``delays`` and ``tau``, by implicit differentiation of ``u(t_out) = v_threshold``
    (equations 10 to 17 there, all at once)::

        dt_out = -du / max(u'(t_out), slope_min v_threshold / tau)

    where ``du`` is the change of the potential at the fixed time ``t_out``. The bound is for potentials that barely
    reach the threshold, where the true gradient is very large. A silent neuron has no gradient through ``t_out``, only
    through ``u_max``. With ``dt``, times change in steps; the same formula is used as their derivative. Second
    derivatives raise an error.

    Args:
        t_in: spike times ``[B, I]``, at least 0, inf for no spike; float32 or float64, any strides.
        w: weights ``[O, I, K]``.
        delays: ``[K]``, the same for all inputs, or ``[I, K]``; at least 0.
        tau: time constant of the response, in the unit of the times; a number or a tensor without dimensions.
        v_threshold: threshold, positive.
        t_max: end of the time in which neurons may fire; not before the last spike of ``t_in``.
        dt: step of the grid of spike times; exact times if None.
        slope_min: least slope in the gradient, in units of ``v_threshold / tau``.
        return_u_max: also return the largest potential of silent neurons.
        return_slope: also return the slopes at the spikes, to see how many ``slope_min`` replaces.
        validate: check the values of ``t_in``, ``delays`` and a ``tau`` tensor, and those of ``w`` if all outputs are
            silent. Warn if all are silent and training therefore has no gradient: while a gradient is recorded,
            without ``return_u_max``. On CUDA this waits for the device. Under ``torch.compile``, ``torch.vmap``
            and in a CUDA graph values cannot be checked.

    Returns:
        ``t_out`` ``[B, O]``; or a tuple of it and of these, if requested, in this order

        - ``u_max`` ``[B, O]``: the largest potential until the first spike or ``t_max``, with ``dt`` that at the times
          of the grid. It is at least 0, and differentiable; for a neuron that fires it is ``v_threshold``, a constant.
          If the maximum is at an event that lowers the potential, it moves with that event; of several such
          events at one time, with the one after which the potential falls.
        - ``slope`` ``[B, O]``: ``u'(t_out)``, inf for silent neurons; has no gradient. The share of replaced slopes is
          ``(slope < slope_min * v_threshold / tau).sum() / t_out.isfinite().sum()``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    check.shape("spikeprop", "t_in", t_in, "BI")
    check.shape("spikeprop", "w", w, "OIK")
    check.shape("spikeprop", "delays", delays, "K", "IK")
    check.dtype("spikeprop", "t_in", t_in.dtype, DTYPES)
    check.beside("spikeprop", "w", w, "t_in", t_in)
    check.beside("spikeprop", "delays", delays, "t_in", t_in)
    (samples, inputs), terminals = t_in.shape, delays.shape[-1]
    outputs, *synapses = w.shape
    if terminals == 0:
        raise ValueError("spikeprop: delays must hold at least one delay, got none")
    if delays.dim() == 2 and delays.shape[0] != inputs:
        raise ValueError(
            f"spikeprop: delays must have shape [K] or [I, K] with I = {inputs} as in t_in, "
            f"got {list(delays.shape)}"
        )
    if synapses != [inputs, terminals]:
        raise ValueError(
            f"spikeprop: w must have shape [O, I, K] with I = {inputs} as in t_in and K = {terminals} as in "
            f"delays, got {list(w.shape)}"
        )
    check.elements("spikeprop", "t_in or w", (samples + 1, outputs + 1, inputs + 1, terminals))
    if isinstance(tau, Tensor):
        if tau.dim():
            raise ValueError(f"spikeprop: tau must have one value, got shape {list(tau.shape)}")
        check.beside("spikeprop", "tau", tau, "t_in", t_in)
    else:
        tau = check.positive("spikeprop", "tau", tau)
    end = check.positive("spikeprop", "t_max", t_max)
    step = 0.0 if dt is None else check.positive("spikeprop", "dt", dt)
    # The last point is t_max if that is a multiple of dt but for rounding.
    points = int(end / step * (1 + 1e-9)) + 1 if step else 0
    if points >= 2**31:
        raise ValueError(
            f"spikeprop: dt must leave fewer than 2**31 steps up to t_max = {end:g}, got {step:g}"
        )
    return SpikePropCall(
        t_in=t_in,
        w=w,
        delays=delays,
        tau=tau,
        v_threshold=check.positive("spikeprop", "v_threshold", v_threshold),
        t_max=end,
        dt=step,
        grid_points=points,
        slope_min=check.positive("spikeprop", "slope_min", slope_min),
        return_u_max=check.flag("spikeprop", "return_u_max", return_u_max),
        return_slope=check.flag("spikeprop", "return_slope", return_slope),
        validate=check.flag("spikeprop", "validate", validate),
    )


def looks(call: SpikePropCall) -> bool:
    """Whether the values of a call are looked at."""
    return check.looks(call.validate, call.t_in.device)


def look_at_values(call: SpikePropCall) -> None:
    """Raises a ValueError for times, delays or a time constant that are out of range."""
    t_in, delays, tau, t_max = call.t_in.detach(), call.delays.detach(), call.tau, call.t_max
    if t_in.numel():
        earliest, latest = t_in.aminmax()
        if not earliest >= 0:  # nor is NaN
            raise ValueError(
                "spikeprop: t_in must hold times that are at least 0 and not NaN, inf for no spike, "
                f"got values from {earliest.item():g} to {latest.item():g}"
            )
        if latest > t_max:
            spikes = t_in[t_in < math.inf]
            if spikes.numel() and spikes.amax() > t_max:
                raise ValueError(
                    f"spikeprop: t_max must not lie before the last input spike, got t_max {t_max:g} "
                    f"and a spike at {spikes.amax().item():g}"
                )
    if delays.numel():
        least, most = delays.aminmax()
        if not (least >= 0 and most < math.inf):
            raise ValueError(
                "spikeprop: delays must be finite and at least 0, "
                f"got values from {least.item():g} to {most.item():g}"
            )
    if isinstance(tau, Tensor) and not 0 < tau.item() < math.inf:
        raise ValueError(f"spikeprop: tau must be positive and finite, got {tau.item():g}")


def needs_spikes(call: SpikePropCall) -> bool:
    """Whether gradients can come through spikes alone: recorded for the times, and not for ``u_max``."""
    learned = (call.t_in, call.w, call.delays, call.tau)
    recorded = any(isinstance(value, Tensor) and value.requires_grad for value in learned)
    return torch.is_grad_enabled() and recorded and not call.return_u_max


# The layer that calls, for the warning.
LAYER: ContextVar[str] = ContextVar("LAYER", default="")


def look_at_silence(call: SpikePropCall, learns: bool) -> None:
    """Where no neuron fired: raises a ValueError for weights that are not finite, else warns if it ``learns``."""
    check.finite("spikeprop", "w", call.w)
    if not learns:
        return
    layer = LAYER.get() and f"{LAYER.get()}, "
    warnings.warn(
        f"spikeprop: all outputs are silent: no neuron of {layer}w {list(call.w.shape)} reached v_threshold = "
        f"{call.v_threshold:g} by t_max = {call.t_max:g}, so t_out has no gradient. Scale up w, lower v_threshold, "
        "raise t_max, or train with u_max (return_u_max=True) until neurons fire",
        stacklevel=5,  # whoever called the public op
    )


def result(call: SpikePropCall, t_out: Tensor, u_max: Tensor, slope: Tensor) -> Any:
    """Return the spike times, followed by ``u_max`` and ``slope`` where the call asks for them."""
    asked: tuple[Tensor, ...] = (t_out,)
    if call.return_u_max:
        asked += (u_max,)
    if call.return_slope:
        asked += (slope,)
    return asked if len(asked) > 1 else t_out


def result_of(call: SpikePropCall, outputs: tuple[Tensor, Tensor, Tensor]) -> Any:
    """The same, of what the reference gives, after a look at values."""
    if looks(call):
        look_at_values(call)
        if outputs[0].numel() and outputs[0].detach().amin() == math.inf:
            look_at_silence(call, needs_spikes(call))
    return result(call, *outputs)
