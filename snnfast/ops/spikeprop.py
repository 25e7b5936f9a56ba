"""First spike times of SRM neurons, differentiable by the implicit function theorem."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from snnfast import backend
from snnfast.reference.spikeprop import (
    Settings,
    finish,
    first_order,
    first_spike,
    is_recorded,
    look_at_values,
    prepare,
    warn_silent,
)

# Bits of what the kernels find in the values; csrc/core/spikeprop.h.
_BAD, _FIRED = 15, 16


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
    kernels = backend.library("spikeprop", t_in) if isinstance(t_in, Tensor) else None
    look_before = validate and kernels is None  # kernels look while they sort
    tau, settings = prepare(
        t_in, w, delays, tau, v_threshold, t_max, dt, slope_min, return_u_max, look_before
    )
    if kernels is None:
        outputs = first_spike(t_in, w, delays, tau, settings)
        return finish(outputs, settings, return_slope, validate)
    inputs = (t_in, w, delays, tau)
    if forward_ad._current_level >= 0:
        _refuse_tangents(inputs)
    if torch.is_grad_enabled() and any(isinstance(v, Tensor) and v.requires_grad for v in inputs):
        t_out, u_max, slope, status = _FirstSpike.apply(kernels, settings, *inputs)  # type: ignore[no-untyped-call]
    else:
        t_out, u_max, slope, _, status = _forward(kernels, settings, *inputs)
    if validate and not is_recorded(t_in.device):
        _report(int(status), t_in, delays, tau, settings, t_out.numel() > 0)
    result: tuple[Tensor, ...] = (t_out,)
    if return_u_max:
        result += (u_max,)
    if return_slope:
        result += (torch.where(t_out.detach() < math.inf, slope, math.inf),)
    return result if len(result) > 1 else t_out


def _report(
    found: int, t_in: Tensor, delays: Tensor, tau: float | Tensor, a: Settings, has_outputs: bool
) -> None:
    if found & _BAD:
        look_at_values(t_in, delays, tau, a.t_max)
    if not found & _FIRED and has_outputs:
        warn_silent(a, stacklevel=4)


def _refuse_tangents(inputs: tuple[Tensor | float, ...]) -> None:
    # A kernel would drop them, and the derivative would silently be zero.
    for a in inputs:
        if isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None:
            raise RuntimeError("spikeprop: forward-mode differentiation is not supported")


def _numbers(a: Settings, tau: float | Tensor) -> tuple[Tensor | None, list[float]]:
    known = (a.v_threshold, a.t_max, a.dt)
    return (tau, [0.0, *known]) if isinstance(tau, Tensor) else (None, [tau, *known])


def _forward(
    kernels: Any, a: Settings, t_in: Tensor, w: Tensor, delays: Tensor, tau: float | Tensor
) -> tuple[Tensor, ...]:
    return kernels.spikeprop_forward(  # type: ignore[no-any-return]
        t_in.contiguous(),
        w.contiguous(),
        delays.contiguous(),
        *_numbers(a, tau),
        a.grid_points,
        a.return_u_max,
    )


class _FirstSpike(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernels: Any,
        a: Settings,
        t_in: Tensor,
        w: Tensor,
        delays: Tensor,
        tau: float | Tensor,
    ) -> tuple[Tensor, ...]:
        t_out, u_max, slope, tape, status = _forward(kernels, a, t_in, w, delays, tau)
        ctx.save_for_backward(
            w, delays, tau if isinstance(tau, Tensor) else None, t_out, slope, tape
        )
        ctx.kernels, ctx.settings = kernels, a
        ctx.tau = None if isinstance(tau, Tensor) else tau
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(slope, status)
        return t_out, u_max, slope, status

    @staticmethod
    def backward(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, *_: Any) -> Any:
        w, delays, tau, *found = ctx.saved_tensors
        tau = ctx.tau if tau is None else tau
        wanted = list(ctx.needs_input_grad[2:])
        run = partial(_backward, ctx.kernels, ctx.settings, tau=tau, found=found, wanted=wanted)
        grads = first_order(run, grad_t, grad_u, w, delays)
        return None, None, *(g if is_wanted else None for g, is_wanted in zip(grads, wanted))


def _backward(
    kernels: Any,
    a: Settings,
    grad_t: Tensor | None,
    grad_u: Tensor | None,
    w: Tensor,
    delays: Tensor,
    tau: float | Tensor,
    found: Sequence[Tensor],
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    return kernels.spikeprop_backward(  # type: ignore[no-any-return]
        None if grad_t is None else grad_t.contiguous(),
        None if grad_u is None else grad_u.contiguous(),
        w.contiguous(),
        delays.contiguous(),
        *_numbers(a, tau),
        a.grid_points,
        a.return_u_max,
        a.slope_min,
        *found,
        wanted,
    )


Pull = Callable[[Tensor, bool], tuple[Tensor | None, Tensor]]


def untracked(
    t_in: Tensor,
    w: Tensor,
    delays: Tensor,
    *,
    tau: float | Tensor,
    v_threshold: float,
    t_max: float,
    dt: float | None,
    slope_min: float,
    validate: bool,
) -> tuple[Tensor, Pull]:
    """:func:`spikeprop` without autograd, which takes longer than the kernels do for a single sample.

    Returns:
        ``t_out``, and a function that takes its gradient, and whether that of ``t_in`` is wanted, and returns those of
        ``t_in`` and ``w``.
    """
    kernels = backend.library("spikeprop", t_in)
    if kernels is None:
        inputs = (t_in.detach().requires_grad_(), w.detach().requires_grad_())
        with torch.enable_grad():
            t_out = spikeprop(
                *inputs,
                delays.detach(),
                tau=tau,
                v_threshold=v_threshold,
                t_max=t_max,
                dt=dt,
                slope_min=slope_min,
                validate=validate,
            )
        return t_out.detach(), lambda grad, _: torch.autograd.grad(t_out, inputs, grad)  # type: ignore[return-value]
    t_in, w, delays = t_in.detach(), w.detach(), delays.detach()
    tau = tau.detach() if isinstance(tau, Tensor) else tau
    tau, a = prepare(t_in, w, delays, tau, v_threshold, t_max, dt, slope_min, False, False)
    t_out, _, slope, tape, status = _forward(kernels, a, t_in, w, delays, tau)
    if validate and not is_recorded(t_in.device):
        _report(int(status), t_in, delays, tau, a, t_out.numel() > 0)

    def pull(grad: Tensor, t_in_wanted: bool) -> tuple[Tensor | None, Tensor]:
        wanted = [t_in_wanted, True, False, False]
        found = (t_out, slope, tape)
        grads = _backward(kernels, a, grad, None, w, delays, tau, found, wanted)
        return grads[0] if t_in_wanted else None, grads[1]

    return t_out, pull


def register(namespace: str) -> None:
    """Makes the kernels in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::spikeprop_forward")
    def _(
        t_in: Tensor,
        w: Tensor,
        delays: Tensor,
        tau: Tensor | None,
        numbers: list[float],
        grid_points: int,
        return_u_max: bool,
    ) -> tuple[Tensor, ...]:
        batch, neurons = t_in.shape[0], t_in.shape[0] * w.shape[0]
        real = w.element_size() // 4
        words = batch * (w.shape[1] * w.shape[2] * (real + 1) + 2)
        words += neurons * (real + 1 if return_u_max else 1)
        return (
            w.new_empty((batch, w.shape[0])),
            w.new_empty((batch, w.shape[0]) if return_u_max else (0,)),
            w.new_empty((batch, w.shape[0])),
            w.new_empty((words,), dtype=torch.int32),
            w.new_empty((1,), dtype=torch.int32),
        )

    @torch.library.register_fake(f"{namespace}::spikeprop_backward")
    def _(
        grad_t: Tensor | None,
        grad_u: Tensor | None,
        w: Tensor,
        delays: Tensor,
        tau: Tensor | None,
        numbers: list[float],
        grid_points: int,
        return_u_max: bool,
        slope_min: float,
        t_out: Tensor,
        *arguments: Any,
    ) -> tuple[Tensor, ...]:
        shapes = ((t_out.shape[0], w.shape[1]), w.shape, delays.shape, ())
        return tuple(
            w.new_empty(shape if is_wanted else (0,))
            for shape, is_wanted in zip(shapes, arguments[-1])
        )
