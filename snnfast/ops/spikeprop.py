"""First spike times of SRM neurons, differentiable by the implicit function theorem."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snnfast.reference.spikeprop import finish, first_spike, prepare


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
) -> Any:  # Tensor, or tuple[Tensor, ...] if more is asked for
    """Times of the first spikes of neurons that are driven by one spike per input, over K delayed terminals each.

    The spike response model of SpikeProp (Bohte, Kok, La Poutré, Neurocomputing 2002, equations 2 to 4)::

        u[b, o](t) = sum over i, k of  w[o, i, k] eps(t - t_in[b, i] - delays[i, k])
        eps(s)     = (s / tau) exp(1 - s / tau) for s > 0, else 0
        t_out[b, o] = the first t <= t_max with u[b, o](t) = v_threshold, inf if there is none

    The time is exact: events are sorted, between two of them ``u`` has a closed form, and its crossing is solved for.
    With ``dt`` it is the first ``t = k dt`` (k = 0, 1, ...) with ``u >= v_threshold`` instead.

    Gradients flow to ``t_in``, ``w``, ``delays`` and ``tau``, by implicit differentiation of ``u(t_out) = v_threshold``
    (equations 10 to 17 there, all at once)::

        dt_out = -du / max(u'(t_out), slope_min v_threshold / tau)

    where ``du`` is the change of the potential at the fixed time ``t_out``. The bound guards against contacts that
    graze the threshold, where the true gradient is infinite. A silent neuron gives and takes no gradient through
    ``t_out``, but through ``u_max``. With ``dt`` the same formula stands for the derivative of times that do not move
    smoothly. Second derivatives raise an error.

    Args:
        t_in: spike times ``[B, I]``, at least 0, inf for no spike; float32 or float64, any strides.
        w: weights ``[O, I, K]``.
        delays: ``[K]``, the same for all inputs, or ``[I, K]``; at least 0.
        tau: time constant of the response, in the unit of the times; a number or a tensor without dimensions.
        v_threshold: threshold, positive.
        t_max: where to stop looking for spikes; not before the last spike of ``t_in``.
        dt: step of the grid of spike times; exact times if None.
        slope_min: least slope in the gradient, in units of ``v_threshold / tau``.
        return_u_max: also return the largest potential of silent neurons.
        return_slope: also return the slopes at the spikes, to see how many ``slope_min`` replaces.
        validate: look at the values of ``t_in``, ``delays`` and a ``tau`` tensor, and warn if all outputs are silent.
            On CUDA this waits for the device. Under ``torch.compile`` and in a CUDA graph values cannot be looked at.

    Returns:
        ``t_out`` ``[B, O]``; or a tuple of it and, as asked for, in this order

        - ``u_max`` ``[B, O]``: the largest potential until the first spike or ``t_max``, with ``dt`` that at the times
          of the grid. It is at least 0, differentiable, and for a neuron that fires ``v_threshold``, a constant. Where
          it sits at an event that pulls the potential down, it moves with that event; of several such events at one
          time, with the one from which on the potential falls.
        - ``slope`` ``[B, O]``: ``u'(t_out)``, inf for silent neurons; has no gradient. The share of replaced slopes is
          ``(slope < slope_min * v_threshold / tau).sum() / t_out.isfinite().sum()``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    tau, settings = prepare(
        t_in, w, delays, tau, v_threshold, t_max, dt, slope_min, return_u_max, validate
    )
    outputs = first_spike(t_in, w, delays, tau, settings)
    return finish(outputs, settings, return_slope, validate)
