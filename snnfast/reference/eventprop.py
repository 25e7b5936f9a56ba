"""Leaky integrate-and-fire neurons with exponential synapses by exact events: Wunderlich and Pehle 2021."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .call import reference_op
from .spikeprop import DTYPES, look_at_delays, look_at_silence, look_at_times


class EventPropCall(NamedTuple):
    """Arguments of :func:`eventprop`; ``arrivals`` are its times plus delays, ``v_threshold`` inf without firing."""

    arrivals: Tensor  # [B, I, S], or [B, N, I, S] with delays of each synapse
    w: Tensor
    w_rec: Tensor | None
    delays_rec: Tensor | None
    tau_mem: float
    tau_syn: float
    v_threshold: float
    t_max: float
    max_spikes: int
    stops: bool
    slope_min: float
    return_u_max: bool
    return_slope: bool
    validate: bool


class _Passed(NamedTuple):
    """Decay factors of potential and current over a time, and the potential that a current of 1 causes by then."""

    mem: Tensor
    syn: Tensor
    response: Tensor


def response(tau_mem: float, tau_syn: float, s: Tensor) -> Tensor:
    """Return the potential at times ``s`` after a current of 1 that meets a neuron at rest."""
    slow, apart = torch.exp(-s / max(tau_mem, tau_syn)), abs(1 / tau_syn - 1 / tau_mem)
    if not apart:
        return s / tau_mem * slow
    return -torch.expm1(-apart * s) / (apart * tau_mem) * slow


def _after(a: EventPropCall, s: Tensor) -> _Passed:
    by_current = response(a.tau_mem, a.tau_syn, s)
    return _Passed(torch.exp(-s / a.tau_mem), torch.exp(-s / a.tau_syn), by_current)


def _top(a: EventPropCall, v: Tensor, i: Tensor) -> Tensor:
    """Return the time until the highest potential, where it rises; at its maximum it equals the current."""
    difference = a.tau_mem - a.tau_syn
    scale = v * difference + i * a.tau_syn
    x = (i - v) / torch.where(scale > 0, scale, 1.0)
    y = difference * x
    ratio = torch.where(y == 0, 1.0, torch.log1p(y) / torch.where(y == 0, 1.0, y))
    return torch.where(scale > 0, a.tau_mem * a.tau_syn * x * ratio, math.inf)


def _crossing(a: EventPropCall, v: Tensor, i: Tensor, length: Tensor) -> Tensor:
    """Return the time to the first crossing within ``length`` ``[B]``, by bisection; inf if there is none."""
    rises = (i > a.v_threshold) & (v < a.v_threshold)
    if not bool((rises | (v >= a.v_threshold)).any()):
        return torch.full_like(v, math.inf)

    def potential(s: Tensor) -> Tensor:
        d = _after(a, s)
        return v * d.mem + i * d.response

    end = length[:, None].expand_as(v)
    # Either the end is above the threshold, or the maximum before it may be.
    last = torch.where(potential(end) >= a.v_threshold, end, _top(a, v, i).minimum(end))
    crosses = rises & (potential(last) >= a.v_threshold)
    low, high = torch.zeros_like(v), last
    for _ in range(64):
        middle = (low + high) / 2
        above = potential(middle) >= a.v_threshold
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    found = torch.where(crosses, high, math.inf)
    return torch.where(v >= a.v_threshold, 0.0, found)  # at or above the threshold by rounding


def _eventprop(a: EventPropCall) -> tuple[Tensor, Tensor, Tensor]:
    """Return spike times, largest potentials and slopes.

    The state is that at constant, detached event times. A time with a gradient changes it to first order: if an arrival
    comes ``d`` later, then after it the current is ``w d / tau_syn`` higher and the potential ``w d / tau_mem`` lower;
    if a neuron is reset ``d`` later, then its potential is ``i d / tau_mem`` lower.
    """
    (samples, neurons), spikes = (a.arrivals.shape[0], a.w.shape[0]), a.max_spikes
    per_row = a.arrivals.shape[-2] * a.arrivals.shape[-1]
    times, order = a.arrivals.flatten(1).sort(dim=1, stable=True)
    learned = [x for x in (a.arrivals, a.w, a.w_rec, a.delays_rec) if x is not None]
    zero = torch.cat([x.flatten()[:0] for x in learned]).sum()  # connects all results to the graph
    v = i = zero.expand(samples, neurons)
    t_out = v.new_full((samples, neurons, spikes), math.inf) + zero
    slopes, u_max = t_out.detach(), v
    under_way = v.new_full((samples, neurons, spikes, neurons), math.inf)  # arrivals of spikes
    t = v.new_zeros(samples)
    step, count = t.long(), torch.zeros_like(v, dtype=torch.long)
    running, full = torch.ones_like(t, dtype=torch.bool), torch.zeros_like(v, dtype=torch.bool)
    row, last = torch.arange(samples, device=t.device), times.shape[1] - 1
    never = torch.full_like(t, math.inf)
    while bool(running.any()):
        of_input, of_spike, spike = never, never, step
        if last >= 0:
            of_input = torch.where(step <= last, times[row, step.clamp(max=last)], math.inf)
        if a.delays_rec is not None and under_way.numel():
            of_spike, spike = under_way.flatten(1).min(1)
        first_input = of_input <= of_spike
        arrival = torch.where(first_input, of_input, of_spike)
        comes = running & (arrival < a.t_max)
        end = torch.where(comes, arrival, a.t_max).detach()
        s = _crossing(a, v.detach(), i.detach(), end - t)
        s = s.masked_fill((count >= spikes) & a.stops, math.inf)
        s = s.masked_fill(full if a.w_rec is None else full.any(1, keepdim=True), math.inf)
        first = s.amin(1) if neurons else never
        fires = running & (first <= end - t)
        fired = fires[:, None] & (s == first[:, None])
        t_end = torch.where(fires, (t + first).minimum(end), end)

        d = _after(a, (t_end - t)[:, None])
        v_end, i_end = v * d.mem + i * d.response, i * d.syn
        rise = ((i_end - v_end) / a.tau_mem).detach()
        guard = rise.clamp(min=a.slope_min * a.v_threshold / a.tau_mem)
        time = t_end[:, None] - (v_end - v_end.detach()) / guard
        moved = torch.where(fired, time - t_end[:, None], 0.0)
        # The end of a rise moves with the arrival that ends it.
        ending = torch.where(comes & ~fires, arrival - arrival.detach(), 0.0)
        if a.w_rec is not None and a.delays_rec is None and neurons:
            of_first = moved.gather(1, fired.byte().argmax(1, keepdim=True))[:, 0]
            ending = torch.where(fires, of_first, ending)
        silent = running[:, None] & (count == 0) & ~fired
        u_max = _highest(a, v, i, v_end, i_end, t_end - t, ending, u_max, silent)

        full = full | (fired & (count >= spikes))
        places = fired[:, :, None] & (count[:, :, None] == torch.arange(spikes, device=t.device))
        t_out = torch.where(places, time[:, :, None], t_out)
        slopes = torch.where(places, rise.clamp(min=0)[:, :, None], slopes)
        count = count + fired
        v = torch.where(fired, -i_end.detach() * moved / a.tau_mem, v_end)
        i = i_end
        if a.w_rec is not None and a.delays_rec is None:
            v = v - torch.where(fired, moved, 0.0) @ a.w_rec.T / a.tau_mem
            i = i + torch.where(fired, 1 + moved / a.tau_syn, 0.0) @ a.w_rec.T
        elif a.delays_rec is not None:
            reached = time[:, :, None, None] + a.delays_rec.T[:, None]
            under_way = torch.where(places[..., None], reached, under_way)

        # Deliver one arrival per sample.
        arrives = comes & ~fires
        number = (order[row, step.clamp(max=last)] if last >= 0 else torch.zeros_like(step)) % max(times.shape[1], 1)
        weight = torch.zeros_like(v)
        if last >= 0:
            weight = a.w[:, number % per_row // a.arrivals.shape[-1]].T
            if a.arrivals.dim() == 4:
                to = number[:, None] // per_row == torch.arange(neurons, device=t.device)
                weight = torch.where(to, weight, 0.0)
        weight = torch.where(first_input[:, None], weight, 0.0)
        if a.delays_rec is not None and neurons and a.w_rec is not None:
            source, target = spike // (spikes * neurons), spike % neurons
            from_spike = torch.nn.functional.one_hot(target, neurons) * a.w_rec[target, source, None]
            weight = torch.where(first_input[:, None], weight, from_spike.to(weight.dtype))
            delivered = torch.nn.functional.one_hot(spike, neurons * spikes * neurons).bool()
            delivered &= (arrives & ~first_input)[:, None]
            under_way = torch.where(delivered.view_as(under_way), math.inf, under_way)
        weight = torch.where(arrives[:, None], weight, 0.0)
        later = torch.where(arrives, arrival - arrival.detach(), 0.0)[:, None]
        v = v - weight * later / a.tau_mem
        i = i + weight * (1 + later / a.tau_syn)
        step = step + (arrives & first_input)
        t = torch.where(running, t_end, t)
        running = running & (fires | comes)
        if a.w_rec is not None:
            running = running & ~full.any(1)
    if a.w_rec is not None:
        full = full.any(1, keepdim=True).expand_as(full)
    t_out = t_out.masked_fill(full[:, :, None], math.nan)
    u_max = torch.where(count > 0, a.v_threshold, u_max).masked_fill(full, math.nan)
    fired_slopes = torch.where(t_out.detach() < math.inf, slopes, math.inf)
    return t_out, u_max, fired_slopes


def _highest(
    a: EventPropCall,
    v: Tensor,
    i: Tensor,
    v_end: Tensor,
    i_end: Tensor,
    length: Tensor,
    ending: Tensor,
    u_max: Tensor,
    silent: Tensor,
) -> Tensor:
    """Return the largest potential so far; the interval ends ``ending`` later than its constant end."""
    rises = silent & (i > v) & (i > 0)
    inside = i_end < v_end
    peak = _top(a, v.detach(), i.detach()).minimum(length[:, None])
    d = _after(a, torch.where(rises, peak, 0.0))
    top = v * d.mem + i * d.response
    slope = ((i_end - v_end) / a.tau_mem).detach()
    value = torch.where(inside, top, v_end + slope * ending[:, None])
    return torch.where(rises & (value > 0) & (value >= u_max), value, u_max)


def result_of(call: EventPropCall, outputs: tuple[Tensor, Tensor, Tensor]) -> Any:
    """Return the outputs that the call asks for; check the number of spikes and warn of silence."""
    t_out, u_max, slope = outputs
    if check.reads_values(call.validate, call.arrivals.device) and t_out.numel():
        first = t_out.detach()[..., 0]
        if not first.amin() < math.inf:  # NaN, too
            if first.isnan().any():
                raise ValueError(
                    "eventprop: max_spikes must be at least the number of spikes of each neuron, got "
                    f"{call.max_spikes} and a neuron of w {list(call.w.shape)} that fires more often; raise max_spikes "
                    "or v_threshold, scale down w, or let neurons stop then (stops=True)"
                )
            tensors = (call.arrivals, call.w, call.w_rec, call.delays_rec)
            recorded = any(t is not None and t.requires_grad for t in tensors)
            fires = call.v_threshold < math.inf
            learns = fires and recorded and torch.is_grad_enabled() and not call.return_u_max
            look_at_silence(call, learns, "eventprop")
    returned = [t_out]
    if call.return_u_max:
        returned.append(u_max)
    if call.return_slope:
        returned.append(slope)
    return tuple(returned) if len(returned) > 1 else t_out


@reference_op(_eventprop, result_of)
def eventprop(
    t_in: Tensor,
    w: Tensor,
    w_rec: Tensor | None = None,
    *,
    delays: Tensor | None = None,
    delays_rec: Tensor | None = None,
    tau_mem: float,
    tau_syn: float,
    v_threshold: float | None = 1.0,
    t_max: float,
    max_spikes: int = 16,
    stops: bool = False,
    slope_min: float = 0.05,
    return_u_max: bool = False,
    return_slope: bool = False,
    validate: bool = True,
) -> EventPropCall:
    """Times of all spikes of leaky integrate-and-fire neurons with exponential synapses, without time steps.

    ::

        tau_mem v' = i - v        a spike where v reaches v_threshold, then v = 0
        tau_syn i' = -i           i[n] += w[n, k] when a spike of input k arrives at neuron n
                                  i[n] += w_rec[n, m] when a spike of neuron m arrives there

    Between two events both have a closed form, and so has the maximum of ``v``; the crossing is found by Newton's
    method. With ``tau_mem = tau_syn = tau`` the first spike is that of :func:`snnfast.ops.spikeprop` with weights
    ``w / e``.

    Gradients are exact (EventProp: Wunderlich and Pehle, Scientific Reports 11, 2021; with recurrence and delays
    Nowotny, Turner, Knight 2025, and Meszaros, Knight, Nowotny 2025). Adjoints of ``v`` and ``i`` change at spikes
    alone, so memory grows with the number of spikes, not with time::

        dt[k] = -dv / max(v'(t[k]), slope_min v_threshold / tau_mem)

    where ``dv`` is the change of the potential at the fixed time ``t[k]``, by weights, by arrivals and by the spike
    before, at which ``v`` was reset. They flow to ``t_in``, ``w``, ``w_rec``, ``delays`` and ``delays_rec``. A silent
    neuron has no gradient through its times, only through ``u_max``. Second derivatives raise an error.

    Args:
        t_in: spike times ``[B, I, S]``, up to S of each input in any order, or ``[B, I]``, one of each; at least 0, inf
            for no spike; float32 or float64, any strides.
        w: weights ``[N, I]``.
        w_rec: weights ``[N, N]`` from neuron m to neuron n; no recurrence if None.
        delays: from each input ``[I]``, or of each synapse ``[N, I]``, which takes memory for every arrival at every
            neuron; at least 0; none if None.
        delays_rec: from each neuron ``[N]``, or of each synapse ``[N, N]``; at least 0; none if None.
        tau_mem: time constant of the potential, in the unit of the times; may equal ``tau_syn``.
        tau_syn: time constant of the current.
        v_threshold: threshold, positive; None for neurons that do not fire: their ``u_max`` is the largest potential.
        t_max: end of the simulation; not before the last spike of ``t_in``. What arrives at or after it has no
            influence.
        max_spikes: the most spikes that a neuron may have; more raise an error.
        stops: a neuron fires no more after ``max_spikes`` spikes, instead of the error; with 1, neurons fire once.
        slope_min: least slope in the gradient, in units of ``v_threshold / tau_mem``.
        return_u_max: also return the largest potential of silent neurons.
        return_slope: also return the slopes at the spikes, to see how many ``slope_min`` replaces.
        validate: check values, and the number of spikes, and warn if all neurons are silent while only spikes can give
            a gradient. On CUDA this waits for the device. Where values cannot be checked, or with False, a neuron with
            too many spikes (with ``w_rec``: all of its sample) has the times and ``u_max`` NaN, without gradients.

    Returns:
        ``t_out`` ``[B, N, max_spikes]``, sorted, inf after the last; or a tuple of it and of these, if requested

        - ``u_max`` ``[B, N]``: the largest potential of a silent neuron, at least 0, differentiable;
          ``v_threshold``, a constant, for one that fires. If the maximum is where an arrival ends the rise, it moves
          with that arrival.
        - ``slope`` ``[B, N, max_spikes]``: ``v'`` before each spike, inf where there is none; has no gradient.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    check.shape("eventprop", "t_in", t_in, "BIS", "BI")
    check.shape("eventprop", "w", w, "NI")
    check.dtype("eventprop", "t_in", t_in.dtype, DTYPES)
    check.same_dtype_and_device("eventprop", "w", w, "t_in", t_in)
    neurons, inputs = w.shape
    if t_in.shape[1] != inputs:
        raise ValueError(
            f"eventprop: w must have shape [N, I] with I = {t_in.shape[1]} as in t_in, got {list(w.shape)}"
        )
    if w_rec is not None:
        check.shape("eventprop", "w_rec", w_rec, (neurons, neurons))
        check.same_dtype_and_device("eventprop", "w_rec", w_rec, "t_in", t_in)
    elif delays_rec is not None:
        raise ValueError("eventprop: delays_rec must come with w_rec, got w_rec None")
    end = check.positive("eventprop", "t_max", t_max)
    validates = check.reads_values(check.flag("eventprop", "validate", validate), t_in.device)
    if validates:
        look_at_times("eventprop", t_in, end)
    arrivals = t_in if t_in.dim() == 3 else t_in[:, :, None]
    sizes = (t_in.shape[0] + 1, neurons + 1, inputs + 1, arrivals.shape[2] + 1)
    check.elements("eventprop", "t_in or w", sizes)
    if delays is not None:
        _delays("delays", delays, (inputs,), (neurons, inputs), t_in, validates)
        arrivals = (arrivals if delays.dim() == 1 else arrivals[:, None]) + delays[..., None]
    if delays_rec is not None:
        _delays("delays_rec", delays_rec, (neurons,), (neurons, neurons), t_in, validates)
        delays_rec = delays_rec.expand(neurons, neurons)
    spikes = check.integer("eventprop", "max_spikes", max_spikes)
    if spikes >= 2**30:
        raise ValueError(f"eventprop: max_spikes must be below 2**30, got {spikes}")
    check.elements("eventprop", "max_spikes", (t_in.shape[0] + 1, neurons + 1, spikes))
    threshold = math.inf if v_threshold is None else check.positive("eventprop", "v_threshold", v_threshold)
    return EventPropCall(
        arrivals=arrivals,
        w=w,
        w_rec=w_rec,
        delays_rec=delays_rec,
        tau_mem=check.positive("eventprop", "tau_mem", tau_mem),
        tau_syn=check.positive("eventprop", "tau_syn", tau_syn),
        v_threshold=threshold,
        t_max=end,
        max_spikes=spikes,
        stops=check.flag("eventprop", "stops", stops),
        slope_min=check.positive("eventprop", "slope_min", slope_min),
        return_u_max=check.flag("eventprop", "return_u_max", return_u_max),
        return_slope=check.flag("eventprop", "return_slope", return_slope),
        validate=validate,
    )


def _delays(
    name: str, delays: Tensor, by_source: tuple[int, ...], by_synapse: tuple[int, ...], t_in: Tensor, validates: bool
) -> None:
    check.shape("eventprop", name, delays, by_source, by_synapse)
    check.same_dtype_and_device("eventprop", name, delays, "t_in", t_in)
    if validates:
        look_at_delays("eventprop", name, delays)
