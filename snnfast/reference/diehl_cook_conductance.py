"""The network of Diehl and Cook with the paper's conductances: Front. Comput. Neurosci. 9:99 (2015)."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast.calls import diehl_cook_conductance as calls
from snnfast.calls.call import equation
from snnfast.calls.diehl_cook_conductance import (
    DiehlCookConductanceCall,
    DiehlCookConductanceState,
    Population,
    at_rest,
)

from .exp import exp_nonpositive
from .networks import one_by_one
from .presentations import spikes_of
from .stdp import normalize


@equation(calls.diehl_cook_conductance_, DiehlCookConductanceCall.result_of)
def diehl_cook_conductance_(call: DiehlCookConductanceCall) -> tuple[Tensor, Tensor]:
    """Spikes of P presentations, counted and one by one; weights, thresholds and the state change in place."""
    return one_by_one(call, present)


def present(call: DiehlCookConductanceCall) -> tuple[Tensor, Tensor]:
    """Run P presentations of one network; return spike counts and spikes."""
    P, (neurons, sources) = call.x.shape[0], call.w.shape
    every = torch.ones(neurons, dtype=torch.bool, device=call.w.device)
    spikes = call.w.new_zeros((P, call.steps, neurons), dtype=torch.bool)
    delays = torch.zeros_like(call.w, dtype=torch.uint8) if call.delays is None else call.delays
    delays = delays.to(torch.int64).clamp(max=call.longest_delay)
    rest = at_rest(call.w, call.longest_delay, call.exc.v_rest, call.inh.v_rest)
    state = DiehlCookConductanceState(*call.state) if call.carry else rest
    for p in range(P):
        if not call.carry:
            state = rest
        if call.learns and call.norm > 0:
            normalize(call.w, every, call.norm, call.rule)
        inputs = spikes_of(call.x, p, sources)
        silence = inputs.new_zeros((call.rest_steps, sources))
        for t, fired in enumerate(torch.cat((inputs, silence))):
            spikes[p, t], state = step(call, state, fired, delays)
    for own, last in zip(call.state, state):
        own.copy_(last)
    return spikes.sum(1, dtype=torch.int32), spikes


def step(
    call: DiehlCookConductanceCall, s: DiehlCookConductanceState, inputs: Tensor, delays: Tensor
) -> tuple[Tensor, DiehlCookConductanceState]:
    """Spikes ``[N]`` of the excitatory neurons and the state after them."""
    g = call.g
    v = membrane(
        call.exc, s.v, s.refractory, g.e_exc, s.g_exc * g.mean_exc, g.e_inh, s.g_inh * g.mean_inh
    )
    v_inh = membrane(call.inh, s.v_inh, s.refractory_inh, g.e_exc, s.g_exc_inh * g.mean_exc)
    call.theta.mul_(call.theta_decay)
    spikes = (s.refractory == 0) & (v >= (call.exc.v_threshold + call.theta).to(v.dtype))
    spikes_inh = (s.refractory_inh == 0) & (v_inh >= call.inh.v_threshold)

    window = torch.cat((s.last_inputs, inputs[None]))
    g_exc = fade(s.g_exc, g.decay_exc)
    # One after the other, what was sent first first, so that sums round alike everywhere.
    for delay in range(call.longest_delay, -1, -1):
        for i in window[call.longest_delay - delay].nonzero().flatten().tolist():
            g_exc = torch.where(delays[:, i] == delay, g_exc + call.w[:, i], g_exc)
    others = spikes_inh.sum() - spikes_inh.to(v.dtype)
    g_inh = fade(s.g_inh, g.decay_inh) + g.w_inh_exc * others
    g_exc_inh = fade(s.g_exc_inh, g.decay_exc) + g.w_exc_inh * spikes.to(v.dtype)

    call.theta.add_(call.theta_plus * spikes.to(call.theta))
    s = s._replace(
        v=torch.where(spikes, call.exc.v_reset, v),
        g_exc=g_exc,
        g_inh=g_inh,
        refractory=held(call.exc, s.refractory, spikes),
        v_inh=torch.where(spikes_inh, call.inh.v_reset, v_inh),
        g_exc_inh=g_exc_inh,
        refractory_inh=held(call.inh, s.refractory_inh, spikes_inh),
        last_inputs=window[1:],
    )
    if call.learns:
        arrived = window.gather(0, call.longest_delay - delays)  # [N, I]
        s = learn(call, s, inputs, arrived, spikes, delays)
    return spikes, s


def learn(
    call: DiehlCookConductanceCall,
    s: DiehlCookConductanceState,
    inputs: Tensor,
    arrived: Tensor,
    post: Tensor,
    delays: Tensor,
) -> DiehlCookConductanceState:
    """Traces, then weights; a synapse sees its input as it was a delay ago."""
    rule, w, past = call.rule, call.w, call.longest_delay - delays
    x_pre = rule.trace(fade(s.trace_pre[-1], rule.decay_pre), inputs)
    x_post = rule.trace(fade(s.trace_post, rule.decay_post), post)
    x_pre2, x_post2 = fade(s.trace_pre2, rule.decay_pre2), fade(s.trace_post2, rule.decay_post2)
    trace_pre = torch.cat((s.trace_pre[1:], x_pre[None]))
    change = torch.zeros_like(w)
    if post.any():
        at_synapse = trace_pre.gather(0, past)[post]
        change[post] += rule.potentiation(w[post], at_synapse, x_post2[post, None])
    if rule.depresses:
        lost = rule.depression(w, x_post[:, None], x_pre2.gather(0, past))
        change = torch.where(arrived, change - lost, change)
    w.copy_((w + change).clamp(rule.w_min, rule.w_max))
    return s._replace(
        trace_pre=trace_pre,
        trace_pre2=torch.cat((s.trace_pre2[1:], rule.trace(x_pre2[-1], inputs)[None])),
        trace_post=x_post,
        trace_post2=rule.trace(x_post2, post),
    )


def membrane(
    a: Population,
    v: Tensor,
    refractory: Tensor,
    e_exc: float,
    g_exc: Tensor,
    e_inh: float = 0.0,
    g_inh: Tensor | None = None,
) -> Tensor:
    """One step of ``tau dv/dt = (v_rest - v) + g_exc (e_exc - v) + g_inh (e_inh - v)``, exact for these conductances.

    A refractory neuron stays where it is.
    """
    total = 1 + g_exc
    pull = a.v_rest + g_exc * e_exc
    if g_inh is not None:
        total = total + g_inh
        pull = pull + g_inh * e_inh
    target = pull / total
    moved = target + (v - target) * exp_nonpositive(total * -a.rate)
    return torch.where(refractory == 0, moved, v)


def fade(x: Tensor, decay: float) -> Tensor:
    """Conductances and traces are gone below 1e-30: before they are subnormal, which slows processors down."""
    faded = x * decay
    return torch.where(faded < 1e-30, 0.0, faded)


def held(a: Population, before: Tensor, spikes: Tensor) -> Tensor:
    """Refractory steps that are left."""
    return torch.where(spikes, a.refractory, (before - 1).clamp(min=0)).to(torch.int32)
