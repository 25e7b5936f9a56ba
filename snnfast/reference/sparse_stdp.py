"""Spike-timing-dependent plasticity of synapses; the rules and their sources are in :mod:`snnfast.plasticity`."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.plasticity import SYNAPSE, Constants, OwnConstants, OwnRule, Rule, Synapses, is_presynaptic

from .call import Changed, reference_op
from .stdp import Reduction, StdpState, Update, check_signals, check_values, normalize, rewards_of, started

# numpy, which snnfast.connect needs, is missing where the package is built.
if TYPE_CHECKING:
    from snnfast.connect import Connectivity
else:
    Connectivity = Any


class SparseStdpCall(NamedTuple):
    """See :func:`sparse_stdp_`; the fields behind ``post`` are of the connectivity, ``state`` is a copy to change.

    ``begin`` to before ``end`` are the presynaptic neurons whose synapses learn.
    """

    w: Changed
    pre: Tensor
    post: Tensor
    first: Tensor
    targets: Tensor
    incoming_first: Tensor
    incoming: Tensor
    sources: Tensor
    state: StdpState
    reward: Tensor | None
    rule: Constants
    decay_eligibility: float
    scale: float
    each_step: bool
    norm: float | None
    begin: int
    end: int


def _sparse_stdp(call: SparseStdpCall) -> StdpState:
    # A copy: a rule of the user may raise an error at any step, and weights then stay.
    w, pre, post, rule = call.w.detach().clone(), call.pre.detach() != 0, call.post.detach() != 0, call.rule
    source = torch.arange(pre.shape[2], device=w.device).repeat_interleave(call.first.diff())
    target = call.targets.long()
    learns = (source >= call.begin) & (source < call.end)
    x_pre, x_pre2, x_post, x_post2, eligibility = call.state
    grown, lost = torch.zeros_like(w), torch.zeros_like(w)
    num_steps, batch = pre.shape[:2]
    unread = set(rule.signals) if isinstance(rule, OwnConstants) and num_steps else set()
    for t in range(num_steps):
        x_pre = rule.trace(x_pre * rule.decay_pre, pre[t])
        x_post = rule.trace(x_post * rule.decay_post, post[t])
        x_pre2, x_post2 = x_pre2 * rule.decay_pre2, x_post2 * rule.decay_post2
        if isinstance(rule, OwnConstants):
            reward = w.new_zeros(batch) if call.reward is None else call.reward[t]
            of_pre = [value[:, source] for value in (pre[t].to(w), x_pre, x_pre2)]
            of_post = [value[:, target] for value in (post[t].to(w), x_post, x_post2)]
            per_synapse = (value.unsqueeze(1) for pair in zip(of_pre, of_post) for value in pair)
            values = dict(zip(SYNAPSE, [w[None].clone(), *per_synapse, reward.view(-1, 1, 1)]))
            for name, signal in rule.signals.items():
                values[name] = signal[t][:, source if is_presynaptic(name) else target].unsqueeze(1)
            changes = rule.changes(Synapses(values, unread))[:, 0]
        for b in range(batch):
            up, down = torch.zeros_like(w), torch.zeros_like(w)
            if eligibility is None:
                up, down = grown, lost
            if isinstance(rule, OwnConstants):
                up += changes[b]
            else:
                gain = rule.potentiation(w, x_pre[b, source], x_post2[b, target])
                up += torch.where(post[t, b, target], gain, 0.0)
            if rule.depresses and not isinstance(rule, OwnConstants):
                loss = rule.depression(w, x_post[b, target], x_pre2[b, source])
                down += torch.where(pre[t, b, source], loss, 0.0)
            if eligibility is not None and call.reward is not None:
                change = torch.where(learns, up - down, 0.0)
                eligibility[b] = eligibility[b] * call.decay_eligibility + change
                grown += call.reward[t, b] * eligibility[b]
        x_pre2, x_post2 = rule.trace(x_pre2, pre[t]), rule.trace(x_post2, post[t])
        if call.each_step or t == num_steps - 1:
            changed = (w + (grown - lost) * call.scale).clamp(rule.w_min, rule.w_max)
            w.copy_(torch.where(learns, changed, w))
            grown, lost = torch.zeros_like(w), torch.zeros_like(w)
    if isinstance(rule, OwnConstants):
        rule.all_read(unread)
    if call.norm is not None:
        for begin, end in itertools.pairwise(call.incoming_first.tolist()):
            of_neuron = call.incoming[begin:end].long()
            of_neuron = of_neuron[learns[of_neuron]]
            row = w[of_neuron][None]
            normalize(row, row.new_ones(1, dtype=torch.bool), call.norm, rule)
            w[of_neuron] = row[0]
    call.w.detach().copy_(w)
    return StdpState(x_pre, x_pre2, x_post, x_post2, eligibility)


@reference_op(_sparse_stdp)
def sparse_stdp_(
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    connectivity: Connectivity,
    *,
    rule: Rule | OwnRule,
    dt: float = 1.0,
    state: StdpState | None = None,
    reward: float | Tensor | None = None,
    reduction: Reduction = "sum",
    update: Update = "step",
    norm: float | None = None,
    sources: range | None = None,
    validate: bool = True,
    **signals: Tensor,
) -> SparseStdpCall:
    """Change the weights of synapses by the spikes of the neurons that they connect.

    It is :func:`snnfast.ops.stdp_` for a list of synapses instead of a matrix: where all neurons are connected once,
    the weights are the same bit for bit. On the CPU work grows with the spikes and their synapses, on a
    GPU with steps and synapses.

    ``w`` is **changed in place**; nothing is changed when an error is raised. There is no gradient.

    Args:
        w: weights ``[synapses]``, in the order of ``connectivity.edges()``, float32 or float64, within the bounds of
            ``rule``.
        pre: presynaptic spikes ``[T, B, n_pre]`` at the steps at which they arrive, bool, uint8 (anything but 0 is a
            spike) or floating point, 0 or 1.
        post: postsynaptic spikes ``[T, B, n_post]``, likewise.
        connectivity: the synapses, of :mod:`snnfast.connect`, all with the same delay.
        rule: plasticity rule, from :mod:`snnfast.plasticity`.
        dt: length of a step, ms.
        state: the state to start from, as returned; it is not changed. None: no neuron has spiked before.
        reward: for a reward-modulated rule: a number, ``[T]`` or ``[T, B]``. A rule of your own may read it.
        reduction: ``"sum"`` or ``"mean"`` of the changes over the batch.
        update: ``"step"`` or ``"sequence"``: as for :func:`snnfast.ops.stdp_`.
        norm: sum of magnitudes to which the weights of the synapses to every postsynaptic neuron are scaled after the
            last step (zeros stay; weights stay within the bounds); None: no scaling.
        sources: the presynaptic neurons whose synapses learn, such as ``range(0, 800)``, the excitatory ones; other
            weights stay, and may lie out of the bounds. None: all.
        validate: check the values of ``w``, and whether the last step of ``pre`` and ``post`` has values other than 0
            and 1.
        signals: those that an :class:`snnfast.plasticity.OwnRule` reads, as for :func:`snnfast.ops.stdp_`.

    Returns:
        :class:`snnfast.ops.StdpState` after the last step; eligibility, where the rule is reward-modulated, is
        ``[B, synapses]``, 0 where synapses do not learn.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    from snnfast import connect
    from snnfast.connect.connectivity import neuron_range

    op, c = "sparse_stdp_", connectivity
    check.flag(op, "validate", validate)
    if not isinstance(c, connect.Connectivity):
        raise TypeError(f"{op}: connectivity must be a Connectivity, made by snnfast.connect, got {check.kind(c)}")
    if c.steps.numel() > 1:
        raise ValueError(
            f"{op}: connectivity must have the same delay everywhere, got {c.shortest} to {c.longest} steps"
        )
    check.weights(op, "w", w, (len(c),))
    if w.device.type not in connect.DEVICES:
        raise ValueError(f"{op}: w must be on the CPU or on CUDA, where synapses have kernels, got {w.device}")
    check.spikes(op, "pre", pre, ("T", "B", c.n_pre), w)
    check.spikes(op, "post", post, (*pre.shape[:2], c.n_post), w)
    if not isinstance(rule, (Rule, OwnRule)):
        raise TypeError(f"{op}: rule must be a rule of snnfast.plasticity, got {type(rule).__name__}")
    step = check.positive(op, "dt", dt)
    check.choice(op, "reduction", reduction, ("sum", "mean"))
    check.choice(op, "update", update, ("step", "sequence"))
    target = None if norm is None else check.positive(op, "norm", norm)
    begin, end = neuron_range(op, "sources", sources, c.n_pre)
    batch, incoming, (first, targets, _) = pre.shape[1], c.incoming_on(w.device), c.on(w.device)
    tau = rule.tau_eligibility
    rewards = rewards_of(op, reward, rule, w, pre, validate)
    check_signals(op, signals, rule, w, pre, post)
    before = started(op, state, w, batch, c.n_pre, c.n_post, modulated=tau is not None)
    if validate:
        check.in_range(op, "w", w.detach()[c.out_of(sources)], rule.w_min, rule.w_max)
        check_values(op, pre, post, signals)
    constants = rule.constants(step)
    if isinstance(constants, OwnConstants):
        constants.signals = {name: signals[name].detach() for name in sorted(signals)}
    return SparseStdpCall(
        w=w,
        pre=pre,
        post=post,
        first=first,
        targets=targets,
        incoming_first=incoming.first,
        incoming=incoming.synapses,
        sources=incoming.sources,
        state=before,
        reward=rewards,
        rule=constants,
        decay_eligibility=0.0 if tau is None else math.exp(-step / tau),
        scale=1.0 / max(batch, 1) if reduction == "mean" else 1.0,
        each_step=update == "step",
        norm=target,
        begin=begin,
        end=end,
    )
