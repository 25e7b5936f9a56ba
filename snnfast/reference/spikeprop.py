"""First spike times of spike response neurons: Bohte, Kok, La Poutré, Neurocomputing 2002."""

from __future__ import annotations

import math
import warnings
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.first_order import first_order

from .call import Parameter, reference_op

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


# Name of the calling layer, for the warning.
LAYER: ContextVar[str] = ContextVar("LAYER", default="")


def result(call: SpikePropCall, t_out: Tensor, u_max: Tensor, slope: Tensor) -> Any:
    """Return the spike times, followed by ``u_max`` and ``slope`` where the call asks for them."""
    asked: tuple[Tensor, ...] = (t_out,)
    if call.return_u_max:
        asked += (u_max,)
    if call.return_slope:
        asked += (slope,)
    return asked if len(asked) > 1 else t_out


def result_of(call: SpikePropCall, outputs: tuple[Tensor, Tensor, Tensor]) -> Any:
    """Return the :func:`result` of the reference's outputs, after checks of values."""
    if validates(call):
        look_at_values(call)
        if outputs[0].numel() and outputs[0].detach().amin() == math.inf:
            look_at_silence(call, needs_spikes(call))
    return result(call, *outputs)


def _spikeprop(call: SpikePropCall) -> tuple[Tensor, Tensor, Tensor]:
    """Return spike times, largest potentials and slopes."""
    return _FirstSpike.apply(call.t_in, call.w, call.delays, call.tau, call)  # type: ignore[no-any-return, no-untyped-call]


class PotentialEvents(NamedTuple):
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
    """Spike of a neuron, or largest potential of a silent neuron; all ``[B, O]``."""

    time: Tensor
    before: Tensor  # the number of events before, in order of time
    slope: Tensor  # of the potential
    potential: Tensor


class _FirstSpike(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, t_in: Tensor, w: Tensor, delays: Tensor, tau: float | Tensor, a: SpikePropCall
    ) -> tuple[Tensor, Tensor, Tensor]:
        events = _evolve(t_in, w, delays, tau, a.t_max)
        candidates = _on_grid(events, tau, a) if a.grid_points else _tops(events, tau)
        fired, spike, peak = _first_and_largest(events, candidates, tau, a)
        t_out = torch.where(fired, spike.time, math.inf)
        point = Point(*(torch.where(fired, s, k) for s, k in zip(spike, peak)))
        u_max = peak.potential.clone() if a.return_u_max else t_in.new_empty(0)
        slope = torch.where(fired, spike.slope, math.inf)
        is_tensor = isinstance(tau, Tensor)
        ctx.save_for_backward(t_in, w, delays, tau if is_tensor else None, fired, events.order, *point[:3])
        ctx.tau, ctx.settings = None if is_tensor else tau, a
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(slope)
        return t_out, u_max, slope

    @staticmethod
    def backward(ctx: Any, grad_t: Tensor | None, grad_u: Tensor | None, _: Any) -> Any:
        t_in, w, delays, tau, fired, order, time, before, slope = ctx.saved_tensors
        a: SpikePropCall = ctx.settings
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

        return *first_order("spikeprop", gradients, grad_t, grad_u), None


def _evolve(t_in: Tensor, w: Tensor, delays: Tensor, tau: float | Tensor, t_max: float) -> PotentialEvents:
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
    return PotentialEvents(times, order, active, length, qs, ps)


def _value(q: Tensor, p: Tensor, s: Tensor, tau: float | Tensor) -> Tensor:
    return torch.exp(-s / tau) * (q + p * s)


def _slope(q: Tensor, p: Tensor, s: Tensor, tau: float | Tensor) -> Tensor:
    return torch.exp(-s / tau) * (p - (q + p * s) / tau)


class _Candidates(NamedTuple):
    """Points ``[B, O, M]`` in order of time, which include the largest potential and the end of the rise to a spike."""

    potential: Tensor  # -inf where there is none
    event: Tensor  # the last event before, [B, O, M]
    after: Tensor  # time since that event


def _tops(events: PotentialEvents, tau: float | Tensor) -> _Candidates:
    """Return the highest point between each event and the next, if the potential rises."""
    q, p = events.q, events.p
    length = events.length[:, None].expand_as(q)
    rises = p * tau > q.clamp(min=0)
    peak = tau - q / torch.where(rises, p, 1.0)  # where the slope is zero
    after = torch.minimum(peak, length)
    potential = torch.where(rises, _value(q, p, after, tau), -math.inf)
    event = torch.arange(q.shape[2], device=q.device).expand_as(q)
    past = events.active[:, None, None] <= event
    return _Candidates(potential.masked_fill(past, -math.inf), event, after)


def _on_grid(events: PotentialEvents, tau: float | Tensor, a: SpikePropCall) -> _Candidates:
    """Return the potential at the times of the grid."""
    q, p = events.q, events.p
    if not q.shape[2]:
        return _Candidates(q, q.long(), q)
    grid = torch.arange(a.grid_points, dtype=torch.float64, device=q.device) * a.dt
    grid = grid.to(q.dtype).expand(len(q), -1).contiguous()
    # An event at a time of the grid has no effect at that time yet.
    event = torch.searchsorted(events.times, grid) - 1
    event = torch.minimum(event, events.active[:, None] - 1)
    before = (event < 0)[:, None]
    event = event.clamp(min=0)[:, None].expand(-1, q.shape[1], -1)
    after = grid[:, None] - events.times[:, None].expand_as(q).gather(2, event)
    potential = _value(q.gather(2, event), p.gather(2, event), after, tau)
    return _Candidates(potential.masked_fill(before, -math.inf), event, after)


def _first_and_largest(
    events: PotentialEvents, candidates: _Candidates, tau: float | Tensor, a: SpikePropCall
) -> tuple[Tensor, Point, Point]:
    """Return whether each neuron fires, its spike, and the largest potential of silent neurons."""
    if not candidates.potential.numel():
        zero = events.q.new_zeros(events.q.shape[:2])
        point = Point(zero, zero.long(), zero, zero)
        return zero.bool(), point, point
    hit = candidates.potential >= a.v_threshold
    fired = hit.any(2)

    def chosen(index: Tensor) -> tuple[Tensor, ...]:
        event = candidates.event.gather(2, index)
        of_event = (events.q, events.p, events.times[:, None].expand_as(events.q))
        q, p, time = (t.gather(2, event)[:, :, 0] for t in of_event)
        return q, p, time, event[:, :, 0], candidates.after.gather(2, index)[:, :, 0]

    q, p, time, event, top = chosen(hit.byte().argmax(2, keepdim=True))
    low, high = torch.zeros_like(top), top
    for _ in range(0 if a.grid_points else 100):  # the potential rises from 0 to top
        middle = (low + high) / 2
        above = _value(q, p, middle, tau) >= a.v_threshold
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    potential = torch.full_like(top, a.v_threshold)
    spike = Point(time + high, event + 1, _slope(q, p, high, tau), potential)

    # The last of equal potentials: among events at the same time, the one after which the potential falls.
    last = candidates.potential.shape[2] - 1
    largest = last - candidates.potential.flip(2).argmax(2, keepdim=True)
    q, p, time, event, after = chosen(largest)
    value = _value(q, p, after, tau)
    some = candidates.potential.gather(2, largest)[:, :, 0] > 0
    slope = _slope(q, p, after, tau)
    if not a.grid_points:
        length = events.length[:, None].expand_as(events.q)
        at_end = after == length.gather(2, event[:, :, None])[:, :, 0]
        slope = torch.where(at_end, slope, 0.0)
        following = torch.cat((events.times[:, 1:], torch.full_like(events.times[:, :1], a.t_max)), 1)
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
    a: SpikePropCall,
) -> Tensor:
    """Return the potential ``[B, O]`` at given times, as the sum over the events ``before``."""
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


@reference_op(_spikeprop, result_of)
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
    """Compute the first spike times of neurons with one spike per input, over K delayed terminals each.

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
    check.same_dtype_and_device("spikeprop", "w", w, "t_in", t_in)
    check.same_dtype_and_device("spikeprop", "delays", delays, "t_in", t_in)
    (samples, inputs), terminals = t_in.shape, delays.shape[-1]
    outputs, *synapses = w.shape
    if terminals == 0:
        raise ValueError("spikeprop: delays must hold at least one delay, got none")
    if delays.dim() == 2 and delays.shape[0] != inputs:
        raise ValueError(
            f"spikeprop: delays must have shape [K] or [I, K] with I = {inputs} as in t_in, got {list(delays.shape)}"
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
        check.same_dtype_and_device("spikeprop", "tau", tau, "t_in", t_in)
    else:
        tau = check.positive("spikeprop", "tau", tau)
    end = check.positive("spikeprop", "t_max", t_max)
    step = 0.0 if dt is None else check.positive("spikeprop", "dt", dt)
    # The last point is t_max if that is a multiple of dt up to rounding.
    points = int(end / step * (1 + 1e-9)) + 1 if step else 0
    if points >= 2**31:
        raise ValueError(f"spikeprop: dt must leave fewer than 2**31 steps up to t_max = {end:g}, got {step:g}")
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


def validates(call: SpikePropCall) -> bool:
    """Return whether the values of a call are checked."""
    return check.reads_values(call.validate, call.t_in.device)


def look_at_values(call: SpikePropCall) -> None:
    """Raise a ValueError for times, delays or a time constant that are out of range."""
    look_at_times("spikeprop", call.t_in, call.t_max)
    look_at_delays("spikeprop", "delays", call.delays)
    if isinstance(call.tau, Tensor) and not 0 < call.tau.item() < math.inf:
        raise ValueError(f"spikeprop: tau must be positive and finite, got {call.tau.item():g}")


def look_at_times(op: str, t_in: Tensor, t_max: float) -> None:
    """Raise a ValueError for input times that are negative, NaN or after ``t_max``."""
    t_in = t_in.detach()
    if not t_in.numel():
        return
    earliest, latest = t_in.aminmax()
    if not earliest >= 0:  # false for NaN, too
        raise ValueError(
            f"{op}: t_in must hold times that are at least 0 and not NaN, inf for no spike, "
            f"got values from {earliest.item():g} to {latest.item():g}"
        )
    if latest > t_max:
        spikes = t_in[t_in < math.inf]
        if spikes.numel() and spikes.amax() > t_max:
            raise ValueError(
                f"{op}: t_max must not lie before the last input spike, got t_max {t_max:g} "
                f"and a spike at {spikes.amax().item():g}"
            )


def look_at_delays(op: str, name: str, delays: Tensor) -> None:
    """Raise a ValueError for delays that are negative or not finite."""
    if delays.numel():
        least, most = delays.detach().aminmax()
        if not (least >= 0 and most < math.inf):
            raise ValueError(
                f"{op}: {name} must be finite and at least 0, got values from {least.item():g} to {most.item():g}"
            )


def needs_spikes(call: SpikePropCall) -> bool:
    """Return whether gradients are recorded and come through spike times only, not through ``u_max``."""
    learned = (call.t_in, call.w, call.delays, call.tau)
    recorded = any(isinstance(value, Tensor) and value.requires_grad for value in learned)
    return torch.is_grad_enabled() and recorded and not call.return_u_max


def look_at_silence(call: Any, learns: bool, op: str = "spikeprop") -> None:
    """Handle a call without spikes: raise a ValueError for weights that are not finite, else warn if it ``learns``."""
    check.finite(op, "w", call.w)
    if not learns:
        return
    layer = LAYER.get() and f"{LAYER.get()}, "
    warnings.warn(
        f"{op}: all outputs are silent: no neuron of {layer}w {list(call.w.shape)} reached v_threshold = "
        f"{call.v_threshold:g} by t_max = {call.t_max:g}, so t_out has no gradient. Scale up w, lower v_threshold, "
        "raise t_max, or train with u_max (return_u_max=True) until neurons fire",
        stacklevel=5,  # the caller of the public op
    )
