"""The network of Diehl and Cook with current-based synapses: Front. Comput. Neurosci. 9:99 (2015)."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast.calls import diehl_cook as calls
from snnfast.calls.call import equation
from snnfast.calls.diehl_cook import DiehlCookCall, DiehlCookState, at_rest

from .networks import one_by_one
from .presentations import spikes_of
from .stdp import normalize


@equation(calls.diehl_cook_, DiehlCookCall.result_of)
def diehl_cook_(call: DiehlCookCall) -> tuple[Tensor, Tensor]:
    """Spikes of P presentations, counted and one by one; weights, thresholds and the state change in place."""
    return one_by_one(call, present)


def present(call: DiehlCookCall) -> tuple[Tensor, Tensor]:
    """Run P presentations of one network; return spike counts and spikes."""
    P, (neurons, sources) = call.x.shape[0], call.w.shape
    spikes = call.w.new_zeros((P, call.steps, neurons), dtype=torch.bool)
    rest = at_rest(call.w, call.inhibition_delay)
    state = DiehlCookState(*call.state) if call.carry else rest
    for p in range(P):
        if not call.carry:
            state = rest
        plastic = state.trace_post != 0
        for t, inputs in enumerate(spikes_of(call.x, p, sources)):
            spikes[p, t], state = step(call, state, inputs)
            plastic |= spikes[p, t]
        if call.learns and call.norm > 0:
            normalize(call.w, plastic, call.norm, call.rule)
    for own, last in zip(call.state, state):
        own.copy_(last)
    return spikes.sum(1, dtype=torch.int32), spikes


def step(call: DiehlCookCall, s: DiehlCookState, inputs: Tensor) -> tuple[Tensor, DiehlCookState]:
    """Spikes ``[N]`` and the state after them: dynamics first, then plasticity."""
    delay = call.inhibition_delay
    current = torch.zeros_like(s.v)
    # In this order, so that sums round alike everywhere.
    for i in s.last_input.nonzero().flatten().tolist():
        current = current + call.w[:, i]
    if delay:
        arriving = s.last_spikes[0]
        current = current - call.inhibition * (arriving.sum() - arriving.to(s.v))
    open_ = s.refractory == 0
    v = s.v * call.decay + torch.where(open_, current, 0.0)
    if call.theta_decay != 1:
        call.theta.mul_(call.theta_decay)
    margin = v - (call.v_threshold + call.theta)
    spikes = margin >= 0
    if call.one_winner and spikes.any():
        winner = margin.argmax()  # the first of equals
        spikes = torch.zeros_like(spikes)
        spikes[winner] = True
    refractory = torch.where(spikes, call.refractory, (s.refractory - 1).clamp(min=0))
    v = torch.where(spikes, call.v_reset, v)
    if delay == 0:
        v = torch.where(open_ & ~spikes, v - call.inhibition * spikes.sum().to(v), v)
    call.theta.add_(call.theta_plus * spikes.to(v))
    s = s._replace(
        v=v,
        refractory=refractory.to(torch.int32),
        last_input=inputs,
        last_spikes=torch.cat([s.last_spikes, spikes[None]])[1:] if delay else s.last_spikes,
    )
    return spikes, learn(call, s, inputs, spikes) if call.learns else s


def learn(call: DiehlCookCall, s: DiehlCookState, pre: Tensor, post: Tensor) -> DiehlCookState:
    """Traces, then weights; the second traces enter as they were before this step's spikes."""
    rule, w = call.rule, call.w
    x_pre = rule.trace(s.trace_pre * rule.decay_pre, pre)
    x_post = rule.trace(s.trace_post * rule.decay_post, post)
    x_pre2, x_post2 = s.trace_pre2 * rule.decay_pre2, s.trace_post2 * rule.decay_post2
    change = torch.zeros_like(w)
    if post.any():
        change[post] += rule.potentiation(w[post], x_pre, x_post2[post, None])
    if rule.depresses and pre.any():
        change[:, pre] -= rule.depression(w[:, pre], x_post[:, None], x_pre2[pre])
    w.copy_((w + change).clamp(rule.w_min, rule.w_max))
    return s._replace(
        trace_pre=x_pre,
        trace_post=x_post,
        trace_pre2=rule.trace(x_pre2, pre),
        trace_post2=rule.trace(x_post2, post),
    )
