"""Spike-timing-dependent plasticity of a dense layer; the rules and their sources are in :mod:`snnfast.plasticity`."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast.calls import stdp as calls
from snnfast.calls.call import equation
from snnfast.plasticity import Constants, OwnConstants, OwnRule, Rule, Synapses


@equation(calls.stdp_)
def stdp_(call: calls.StdpCall) -> calls.StdpState:
    w, pre, post, rule = call.w.detach(), call.pre.detach() != 0, call.post.detach() != 0, call.rule
    x_pre, x_pre2, x_post, x_post2, eligibility = call.state
    grown, lost = torch.zeros_like(w), torch.zeros_like(w)
    num_steps, batch = pre.shape[:2]
    for t in range(num_steps):
        x_pre = rule.trace(x_pre * rule.decay_pre, pre[t])
        x_post = rule.trace(x_post * rule.decay_post, post[t])
        x_pre2, x_post2 = x_pre2 * rule.decay_pre2, x_post2 * rule.decay_post2
        if isinstance(rule, OwnConstants):
            reward = w.new_zeros(batch) if call.reward is None else call.reward[t]
            of_pre = [value.unsqueeze(1) for value in (pre[t].to(w), x_pre, x_pre2)]
            of_post = [value.unsqueeze(2) for value in (post[t].to(w), x_post, x_post2)]
            per_synapse = (each for pair in zip(of_pre, of_post) for each in pair)
            changes = rule.changes(Synapses._make([w.clone(), *per_synapse, reward.view(-1, 1, 1)]))
        for b in range(batch):
            up, down = torch.zeros_like(w), torch.zeros_like(w)
            if eligibility is None:
                up, down = grown, lost
            fired_pre, fired_post = pre[t, b], post[t, b]
            if isinstance(rule, OwnConstants):
                up += changes[b]
                fired_pre = fired_post = fired_pre.new_zeros(())
            if fired_post.any():
                up[fired_post] += rule.potentiation(
                    w[fired_post], x_pre[b], x_post2[b, fired_post, None]
                )
            if rule.depresses and fired_pre.any():
                down[:, fired_pre] += rule.depression(
                    w[:, fired_pre], x_post[b, :, None], x_pre2[b, fired_pre]
                )
            if eligibility is not None and call.reward is not None:
                eligibility[b] = eligibility[b] * call.decay_eligibility + (up - down)
                grown += call.reward[t, b] * eligibility[b]
        x_pre2, x_post2 = rule.trace(x_pre2, pre[t]), rule.trace(x_post2, post[t])
        if call.each_step or t == num_steps - 1:
            w.copy_((w + (grown - lost) * call.scale).clamp(rule.w_min, rule.w_max))
            grown, lost = torch.zeros_like(w), torch.zeros_like(w)
    if call.norm is not None:
        normalize(w, w.new_ones(len(w), dtype=torch.bool), call.norm, rule)
    return calls.StdpState(x_pre, x_pre2, x_post, x_post2, eligibility)


def normalize(w: Tensor, rows: Tensor, norm: float, rule: Rule | OwnRule | Constants) -> None:
    """Scales the rows of ``w`` where ``rows`` is True to a sum of magnitudes ``norm``; rows of zeros stay.

    The sum is in float64 and in order; the result stays within the rule's bounds.
    """
    for j in map(tuple, rows.nonzero().tolist()):
        values = w[j].double()
        # One after the other: on the CPU, since CUDA adds parts of it first.
        total = values.abs().cpu().cumsum(0)[-1].item() if values.numel() else 0.0
        if total > 0:
            w[j] = (values * (norm / total)).to(w.dtype).clamp(rule.w_min, rule.w_max)
