"""First spike times of SRM neurons in plain PyTorch: what the kernels of ``snnfast.ops.spikeprop`` must compute."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check

DTYPES = (torch.float32, torch.float64)


class Settings(NamedTuple):
    """What of the arguments is no tensor. ``grid_points`` 0 asks for exact times, otherwise times are ``k dt``."""

    v_threshold: float
    t_max: float
    dt: float
    grid_points: int
    slope_min: float
    return_u_max: bool


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
    """See :func:`snnfast.ops.spikeprop`."""
    tau, settings = prepare(
        t_in, w, delays, tau, v_threshold, t_max, dt, slope_min, return_u_max, validate
    )
    return finish(first_spike(t_in, w, delays, tau, settings), settings, return_slope, validate)


def first_spike(
    t_in: Tensor, w: Tensor, delays: Tensor, tau: float | Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Spike times, largest potentials and slopes, of checked arguments."""
    return _FirstSpike.apply(t_in, w, delays, tau, settings)  # type: ignore[no-any-return, no-untyped-call]


class Events(NamedTuple):
    """The events of every sample in order of time, and the potential after each.

    From event ``n`` on ``u(times[n] + s) = exp(-s / tau) (q[n] + p[n] s)``, until ``times[n] + length[n]``.
    Events at ``t_max`` and later are moved there and have no weight.
    """

    times: Tensor  # [B, N]
    order: Tensor  # [B, N]
    active: Tensor  # [B], the number of events before t_max
    length: Tensor  # [B, N]
    q: Tensor  # [B, O, N]
    p: Tensor  # [B, O, N]


class Point(NamedTuple):
    """Where a neuron fires, or a silent one has its largest potential; all ``[B, O]``."""

    time: Tensor
    before: Tensor  # the number of events before, in order of time
    slope: Tensor  # of the potential
    potential: Tensor


class _FirstSpike(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        t_in: Tensor,
        w: Tensor,
        delays: Tensor,
        tau: float | Tensor,
        a: Settings,
    ) -> tuple[Tensor, Tensor, Tensor]:
        events = _evolve(t_in, w, delays, tau, a.t_max)
        candidates = _on_grid if a.grid_points else _tops
        fired, spike, peak = _first_and_largest(events, candidates(events, tau, a), tau, a)
        t_out = torch.where(fired, spike.time, math.inf)
        point = Point(*(torch.where(fired, s, k) for s, k in zip(spike, peak)))
        u_max = peak.potential.clone() if a.return_u_max else t_in.new_empty(0)
        slope = torch.where(fired, spike.slope, math.inf)
        is_tensor = isinstance(tau, Tensor)
        ctx.save_for_backward(
            t_in, w, delays, tau if is_tensor else None, fired, events.order, *point[:3]
        )
        ctx.tau, ctx.settings = None if is_tensor else tau, a
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(slope)
        return t_out, u_max, slope

    @staticmethod
    def backward(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, _: Any) -> Any:
        t_in, w, delays, tau, fired, order, time, before, slope = ctx.saved_tensors
        a: Settings = ctx.settings
        inputs = (t_in, w, delays, tau)

        def gradients(grad_t: Tensor | None, grad_u: Tensor | None) -> tuple[Tensor | None, ...]:
            values = [None if v is None else v.detach().requires_grad_() for v in inputs]
            with torch.enable_grad():
                tau = ctx.tau if values[3] is None else values[3]
                u = _potential(values[0], values[1], values[2], tau, order, time, before, fired, a)  # type: ignore[arg-type]
            zero = torch.zeros_like(u)
            guard = slope.clamp(min=a.slope_min * a.v_threshold / float(tau))
            by_spike = zero if grad_t is None else -grad_t / guard
            by_peak = zero if grad_u is None or not a.return_u_max else grad_u
            wanted = [v for v in values if v is not None]
            found = iter(torch.autograd.grad(u, wanted, torch.where(fired, by_spike, by_peak)))
            return tuple(None if v is None else next(found) for v in values)

        return *first_order(gradients, grad_t, grad_u), None


def _evolve(t_in: Tensor, w: Tensor, delays: Tensor, tau: float | Tensor, t_max: float) -> Events:
    times, order = (t_in[:, :, None] + delays).flatten(1).sort(dim=1, stable=True)
    active = (times < t_max).sum(1)
    times = torch.where(times < t_max, times, t_max)
    length = torch.diff(times, dim=1, append=torch.full_like(times[:, :1], t_max))
    weights = w.flatten(1)[:, order].movedim(1, 0)  # [B, O, N]
    weights = torch.where((times < t_max)[:, None], weights, 0.0)
    q = p = weights.new_zeros(weights.shape[:2])
    of_events = []
    for n in range(times.shape[1]):
        p = p + weights[:, :, n] * (math.e / tau)
        of_events.append(torch.stack((q, p)))
        s = length[:, n, None]
        decay = torch.exp(-s / tau)
        q, p = decay * (q + p * s), decay * p
    qs, ps = torch.stack(of_events, 3) if of_events else weights.expand(2, *weights.shape)
    return Events(times, order, active, length, qs, ps)


def _value(q: Tensor, p: Tensor, s: Tensor, tau: float | Tensor) -> Tensor:
    return torch.exp(-s / tau) * (q + p * s)


def _slope(q: Tensor, p: Tensor, s: Tensor, tau: float | Tensor) -> Tensor:
    return torch.exp(-s / tau) * (p - (q + p * s) / tau)


class _Candidates(NamedTuple):
    """Points ``[B, O, M]`` in order of time, among them the largest potential and the end of a rise to the spike."""

    potential: Tensor  # -inf where there is none
    event: Tensor  # the last event before, [B, O, M]
    after: Tensor  # time since that event


def _tops(events: Events, tau: float | Tensor, a: Settings) -> _Candidates:
    """The highest point after every event and before the next, if the potential rises at all."""
    q, p = events.q, events.p
    length = events.length[:, None].expand_as(q)
    rises = p * tau > q.clamp(min=0)
    peak = tau - q / torch.where(rises, p, 1.0)  # where the slope is zero
    after = torch.minimum(peak, length)
    potential = torch.where(rises, _value(q, p, after, tau), -math.inf)
    event = torch.arange(q.shape[2], device=q.device).expand_as(q)
    past = events.active[:, None, None] <= event
    return _Candidates(potential.masked_fill(past, -math.inf), event, after)


def _on_grid(events: Events, tau: float | Tensor, a: Settings) -> _Candidates:
    """The potential at the times of the grid."""
    q, p = events.q, events.p
    if not q.shape[2]:
        return _Candidates(q, q.long(), q)
    grid = torch.arange(a.grid_points, dtype=torch.float64, device=q.device) * a.dt
    grid = grid.to(q.dtype).expand(len(q), -1).contiguous()
    event = torch.searchsorted(events.times, grid, right=True) - 1
    event = torch.minimum(event, events.active[:, None] - 1)
    before = (event < 0)[:, None]
    event = event.clamp(min=0)[:, None].expand(-1, q.shape[1], -1)
    after = grid[:, None] - events.times[:, None].expand_as(q).gather(2, event)
    potential = _value(q.gather(2, event), p.gather(2, event), after, tau)
    return _Candidates(potential.masked_fill(before, -math.inf), event, after)


def _first_and_largest(
    events: Events, candidates: _Candidates, tau: float | Tensor, a: Settings
) -> tuple[Tensor, Point, Point]:
    """Whether a neuron fires, where, and the largest potential of a silent one."""
    if not candidates.potential.numel():
        zero = events.q.new_zeros(events.q.shape[:2])
        point = Point(zero, zero.long(), zero, zero)
        return zero.bool(), point, point
    hit = candidates.potential >= a.v_threshold
    fired = hit.any(2)

    def at(index: Tensor) -> tuple[Tensor, ...]:
        event = candidates.event.gather(2, index)
        of_event = (events.q, events.p, events.times[:, None].expand_as(events.q))
        q, p, time = (t.gather(2, event)[:, :, 0] for t in of_event)
        return q, p, time, event[:, :, 0], candidates.after.gather(2, index)[:, :, 0]

    q, p, time, event, top = at(hit.byte().argmax(2, keepdim=True))
    low, high = torch.zeros_like(top), top
    for _ in range(0 if a.grid_points else 100):  # the potential rises from 0 to top
        middle = (low + high) / 2
        above = _value(q, p, middle, tau) >= a.v_threshold
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    potential = torch.full_like(top, a.v_threshold)
    spike = Point(time + high, event + 1, _slope(q, p, high, tau), potential)

    # Of equal potentials the last: among events at one time, the one from which on it falls.
    last = candidates.potential.shape[2] - 1
    largest = last - candidates.potential.flip(2).argmax(2, keepdim=True)
    q, p, time, event, after = at(largest)
    value = _value(q, p, after, tau)
    some = candidates.potential.gather(2, largest)[:, :, 0] > 0
    slope = _slope(q, p, after, tau)
    if not a.grid_points:
        length = events.length[:, None].expand_as(events.q)
        at_end = after == length.gather(2, event[:, :, None])[:, :, 0]
        slope = torch.where(at_end, slope, 0.0)
        following = torch.cat(
            (events.times[:, 1:], torch.full_like(events.times[:, :1], a.t_max)), 1
        )
        following = following[:, None].expand_as(events.q).gather(2, event[:, :, None])[:, :, 0]
        time = torch.where(at_end, following, time + after)
    else:
        time = time + after
    silent = Point(time, event + 1, slope, value)
    nothing = torch.zeros_like(value)
    peak = Point(*(torch.where(some, s, nothing.to(s.dtype)) for s in silent))
    return fired, spike, peak._replace(potential=torch.where(fired, potential, peak.potential))


def _potential(
    t_in: Tensor,
    w: Tensor,
    delays: Tensor,
    tau: float | Tensor,
    order: Tensor,
    time: Tensor,
    before: Tensor,
    fired: Tensor,
    a: Settings,
) -> Tensor:
    """The potential ``[B, O]`` at given times, as the sum over the events ``before``."""
    events = (t_in[:, :, None] + delays).flatten(1).gather(1, order)
    weights = w.flatten(1)[:, order].movedim(1, 0)
    if order.shape[1] and not a.grid_points:
        # A peak at an event that pulls the potential down moves with that event.
        following = events[:, None].expand(-1, w.shape[0], -1)
        following = following.gather(2, before.clamp(max=order.shape[1] - 1)[:, :, None])[:, :, 0]
        at_event = ~fired & (before > 0) & (before < order.shape[1]) & (following == time)
        time = torch.where(at_event, following, time)
    index = torch.arange(order.shape[1], device=w.device)
    s = torch.where(index < before[:, :, None], time[:, :, None] - events[:, None], 0.0) / tau
    kernel = s * torch.exp(1 - s)
    return torch.where(index < before[:, :, None], weights * kernel, 0.0).sum(2)


class _FirstOrder(torch.autograd.Function):
    # Without this a second derivative would silently be wrong.
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "spikeprop: a second derivative was asked for, but only first derivatives are implemented"
        )


def first_order(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)`` inside a backward pass; differentiating it again raises an error."""
    if torch.is_grad_enabled():  # create_graph=True
        return _FirstOrder.apply(function, *args)  # type: ignore[no-untyped-call]
    return function(*args)


def prepare(
    t_in: Tensor,
    w: Tensor,
    delays: Tensor,
    tau: float | Tensor,
    v_threshold: float,
    t_max: float,
    dt: float | None,
    slope_min: float,
    return_u_max: bool,
    validate: bool,
) -> tuple[float | Tensor, Settings]:
    """Checks the arguments of :func:`spikeprop`; returns ``tau`` and the settings."""
    for name, value, shape in (
        ("t_in", t_in, "[B, I]"),
        ("w", w, "[O, I, K]"),
        ("delays", delays, "[K] or [I, K]"),
    ):
        if not isinstance(value, Tensor):
            raise TypeError(f"spikeprop: {name} must be a tensor, got {type(value).__name__}")
        if value.dim() not in {"t_in": (2,), "w": (3,), "delays": (1, 2)}[name]:
            raise ValueError(f"spikeprop: {name} must have shape {shape}, got {list(value.shape)}")
    if t_in.dtype not in DTYPES:
        raise TypeError(
            f"spikeprop: t_in must have one of the dtypes float32, float64, got {t_in.dtype}"
        )
    _like("w", w, t_in)
    _like("delays", delays, t_in)
    inputs, terminals = t_in.shape[1], delays.shape[-1]
    if terminals == 0:
        raise ValueError("spikeprop: delays must hold at least one delay, got none")
    if delays.dim() == 2 and delays.shape[0] != inputs:
        raise ValueError(
            f"spikeprop: delays must have shape [K] or [I, K] with I = {inputs} as in t_in, "
            f"got {list(delays.shape)}"
        )
    if w.shape[1] != inputs or w.shape[2] != terminals:
        raise ValueError(
            f"spikeprop: w must have shape [O, I, K] with I = {inputs} as in t_in and K = {terminals} as in "
            f"delays, got {list(w.shape)}"
        )
    if isinstance(tau, Tensor):
        if tau.dim():
            raise ValueError(f"spikeprop: tau must have one value, got shape {list(tau.shape)}")
        _like("tau", tau, t_in)
    else:
        tau = _positive("tau", tau)
    threshold = _positive("v_threshold", v_threshold)
    end = _positive("t_max", t_max)
    step = 0.0 if dt is None else _positive("dt", dt)
    guard = _positive("slope_min", slope_min)
    # The last point is t_max if that is a multiple of dt but for rounding.
    points = int(end / step * (1 + 1e-9)) + 1 if dt is not None else 0
    if validate and not is_recorded(t_in.device):
        look_at_values(t_in, delays, tau, end)
    return tau, Settings(threshold, end, step, points, guard, bool(return_u_max))


def _like(name: str, value: Tensor, t_in: Tensor) -> None:
    if value.dtype != t_in.dtype:
        raise TypeError(
            f"spikeprop: {name} must have the dtype of t_in, {t_in.dtype}, got {value.dtype}"
        )
    if value.device != t_in.device:
        raise ValueError(
            f"spikeprop: {name} must be on the device of t_in, {t_in.device}, got {value.device}"
        )


def _positive(name: str, value: object) -> float:
    number = check.number("spikeprop", name, value)
    if not number > 0:
        raise ValueError(f"spikeprop: {name} must be positive, got {number}")
    return number


def is_recorded(device: torch.device) -> bool:
    """Whether this code is recorded to run again later, so that values cannot be looked at."""
    return torch.compiler.is_compiling() or (
        device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    )


def look_at_values(t_in: Tensor, delays: Tensor, tau: float | Tensor, t_max: float) -> None:
    """Raises a ValueError for times, delays or a time constant that are out of range."""
    t_in, delays = t_in.detach(), delays.detach()
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


def warn_silent(a: Settings, stacklevel: int) -> None:
    """Warns that no neuron fired; ``stacklevel`` as of ``warnings.warn`` for the function that calls this one."""
    warnings.warn(
        f"spikeprop: all outputs are silent: no neuron reached v_threshold = {a.v_threshold:g} by "
        f"t_max = {a.t_max:g}, so t_out has no gradient. Scale up w, lower v_threshold, raise t_max, or "
        "train with u_max (return_u_max=True) until neurons fire",
        stacklevel=stacklevel,
    )


def finish(
    outputs: tuple[Tensor, Tensor, Tensor], a: Settings, return_slope: bool, validate: bool
) -> Tensor | tuple[Tensor, ...]:
    """What the caller asked for of ``(t_out, u_max, slope)``; warns where no neuron fired."""
    t_out, u_max, slope = outputs
    looked_at = validate and t_out.numel() > 0 and not is_recorded(t_out.device)
    if looked_at and t_out.detach().amin() == math.inf:
        warn_silent(a, stacklevel=4)
    result: tuple[Tensor, ...] = (t_out,)
    if a.return_u_max:
        result += (u_max,)
    if return_slope:
        result += (slope,)
    return result if len(result) > 1 else t_out
