"""Spike-timing-dependent plasticity of a dense layer; the rules and their sources are in :mod:`snnfast.plasticity`."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.plasticity import SYNAPSE, Constants, OwnConstants, OwnRule, Rule, Synapses, is_presynaptic

from .call import Changed, OptionalChanged, reference_op

Reduction = Literal["sum", "mean"]


Update = Literal["step", "sequence"]


class StdpState(NamedTuple):
    """State of synapses between two steps, besides their weights.

    Attributes:
        trace_pre, trace_pre2: first and second traces of the presynaptic neurons ``[B, N_pre]``.
        trace_post, trace_post2: the same of the postsynaptic neurons ``[B, N_post]``.
        eligibility: eligibility traces ``[B, N_post, N_pre]`` of a reward-modulated rule, else None.
    """

    trace_pre: Changed
    trace_pre2: Changed
    trace_post: Changed
    trace_post2: Changed
    eligibility: OptionalChanged


class StdpCall(NamedTuple):
    """See :func:`stdp_`; ``reward`` is ``[T, B]``, and ``state`` a copy that the op may change."""

    w: Changed
    pre: Tensor
    post: Tensor
    state: StdpState
    reward: Tensor | None
    rule: Constants
    decay_eligibility: float
    scale: float
    each_step: bool
    norm: float | None


def _stdp(call: StdpCall) -> StdpState:
    # A copy: a rule of the user may raise an error at any step, and weights then stay.
    w, pre, post, rule = call.w.detach().clone(), call.pre.detach() != 0, call.post.detach() != 0, call.rule
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
            of_pre = [value.unsqueeze(1) for value in (pre[t].to(w), x_pre, x_pre2)]
            of_post = [value.unsqueeze(2) for value in (post[t].to(w), x_post, x_post2)]
            per_synapse = (value for pair in zip(of_pre, of_post) for value in pair)
            values = dict(zip(SYNAPSE, [w.clone(), *per_synapse, reward.view(-1, 1, 1)]))
            for name, signal in rule.signals.items():
                values[name] = signal[t].unsqueeze(1 if is_presynaptic(name) else 2)
            changes = rule.changes(Synapses(values, unread))
        for b in range(batch):
            up, down = torch.zeros_like(w), torch.zeros_like(w)
            if eligibility is None:
                up, down = grown, lost
            fired_pre, fired_post = pre[t, b], post[t, b]
            if isinstance(rule, OwnConstants):
                up += changes[b]
                fired_pre = fired_post = fired_pre.new_zeros(())
            if fired_post.any():
                up[fired_post] += rule.potentiation(w[fired_post], x_pre[b], x_post2[b, fired_post, None])
            if rule.depresses and fired_pre.any():
                down[:, fired_pre] += rule.depression(w[:, fired_pre], x_post[b, :, None], x_pre2[b, fired_pre])
            if eligibility is not None and call.reward is not None:
                eligibility[b] = eligibility[b] * call.decay_eligibility + (up - down)
                grown += call.reward[t, b] * eligibility[b]
        x_pre2, x_post2 = rule.trace(x_pre2, pre[t]), rule.trace(x_post2, post[t])
        if call.each_step or t == num_steps - 1:
            w.copy_((w + (grown - lost) * call.scale).clamp(rule.w_min, rule.w_max))
            grown, lost = torch.zeros_like(w), torch.zeros_like(w)
    if isinstance(rule, OwnConstants):
        rule.all_read(unread)
    if call.norm is not None:
        normalize(w, w.new_ones(len(w), dtype=torch.bool), call.norm, rule)
    call.w.detach().copy_(w)
    return StdpState(x_pre, x_pre2, x_post, x_post2, eligibility)


def normalize(w: Tensor, rows: Tensor, norm: float, rule: Rule | OwnRule | Constants) -> None:
    """Scale the rows of ``w`` where ``rows`` is True to a sum of magnitudes ``norm``; rows of zeros stay.

    The sum is in float64 and in order; the result stays within the rule's bounds.
    """
    for j in map(tuple, rows.nonzero().tolist()):
        values = w[j].double()
        # Sequential sum: on the CPU, since CUDA sums in parallel.
        total = values.abs().cpu().cumsum(0)[-1].item() if values.numel() else 0.0
        if total > 0:
            w[j] = (values * (norm / total)).to(w.dtype).clamp(rule.w_min, rule.w_max)


@reference_op(_stdp)
def stdp_(
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    *,
    rule: Rule | OwnRule,
    dt: float = 1.0,
    state: StdpState | None = None,
    reward: float | Tensor | None = None,
    reduction: Reduction = "sum",
    update: Update = "step",
    norm: float | None = None,
    validate: bool = True,
    **signals: Tensor,
) -> StdpCall:
    """Change the weights of a layer by the spikes of the neurons that it connects.

    Traces are those of :mod:`snnfast.plasticity`, one for each neuron and sample (Morrison, Diesmann and Gerstner
    2008). With the potentiation and depression of ``rule``, a step changes the weight from neuron i to neuron j by::

        grown = sum_b s_post[t, b, j] potentiation(w, x_pre[t, b, i], ...)
        lost  = sum_b s_pre[t, b, i] depression(w, x_post[t, b, j], ...)
        w <- clamp(w + scale (grown - lost), w_min, w_max)        scale: 1 or, with reduction="mean", 1 / B

    With ``update="step"`` this happens at each step, and ``w`` is the weight before the step, the same for all samples
    of the batch. With ``update="sequence"`` ``w`` is the weight before the call; ``grown`` and ``lost`` are summed
    over all steps, too, and the sum is added and clamped once. For a reward-modulated rule::

        e[b] <- e[b] exp(-dt / tau_eligibility) + s_post potentiation(w, ...) - s_pre depression(w, ...)
        grown = sum_b reward[t, b] e[b]        lost = 0

    The change of an :class:`snnfast.plasticity.OwnRule` replaces potentiation and depression.

    ``w`` is **changed in place**; nothing is changed when an error is raised. There is no gradient. A sequence in two
    parts gives the result of the whole if the second part gets the state of the first (with ``update="step"`` and
    without ``norm``, which acts at the end of each call).

    Work grows with the spikes, except for reward-modulated rules, whose eligibility decays everywhere in each step, and
    rules of your own, which are computed for every synapse. The
    CPU kernels equal the reference bit for bit, except in float32 for rules with a power or exponential of the weight,
    which agree to rounding. Sources of the rules: :mod:`snnfast.plasticity`.

    Args:
        w: weights ``[N_post, N_pre]``, float32 or float64, within the bounds of ``rule``.
        pre: presynaptic spikes ``[T, B, N_pre]``, bool, uint8 (anything but 0 is a spike) or floating point, 0 or 1.
        post: postsynaptic spikes ``[T, B, N_post]``, likewise.
        rule: plasticity rule, from :mod:`snnfast.plasticity`.
        dt: length of a step, ms.
        state: the state to start from, as returned; it is not changed. None: no neuron has spiked before.
        reward: for a reward-modulated rule: a number, ``[T]`` or ``[T, B]``. A rule of your own may read it.
        reduction: ``"sum"`` or ``"mean"`` of the changes over the batch.
        update: ``"step"`` or ``"sequence"``.
        norm: sum of magnitudes to which the weights of every postsynaptic neuron are scaled after the last step (rows
            of zeros stay; weights stay within the bounds); None: no scaling.
        validate: check the values of ``w``, ``reward`` and signals, and whether the last step of ``pre`` and ``post``
            has values other than 0 and 1; on CUDA this waits for the device.
        signals: signals of the neurons in every step that an :class:`snnfast.plasticity.OwnRule` reads, such as
            membrane potentials, in the dtype of ``w``: a name that ends in ``_pre`` stands for ``[T, B, N_pre]``, one
            that ends in ``_post`` for ``[T, B, N_post]``.

    Returns:
        :class:`StdpState` after the last step.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    op = "stdp_"
    check.flag(op, "validate", validate)
    check.weights(op, "w", w, ("N_post", "N_pre"))
    check.spikes(op, "pre", pre, ("T", "B", w.shape[1]), w)
    check.spikes(op, "post", post, (*pre.shape[:2], w.shape[0]), w)
    if not isinstance(rule, (Rule, OwnRule)):
        raise TypeError(f"{op}: rule must be a rule of snnfast.plasticity, got {type(rule).__name__}")
    step = check.positive(op, "dt", dt)
    check.choice(op, "reduction", reduction, ("sum", "mean"))
    check.choice(op, "update", update, ("step", "sequence"))
    target = None if norm is None else check.positive(op, "norm", norm)
    batch, tau = pre.shape[1], rule.tau_eligibility
    rewards = rewards_of(op, reward, rule, w, pre, validate)
    check_signals(op, signals, rule, w, pre, post)
    if validate:
        check.in_range(op, "w", w.detach(), rule.w_min, rule.w_max)
        check_values(op, pre, post, signals)
    constants = rule.constants(step)
    if isinstance(constants, OwnConstants):
        constants.signals = {name: signals[name].detach() for name in sorted(signals)}
    return StdpCall(
        w=w,
        pre=pre,
        post=post,
        state=started(op, state, w, batch, w.shape[1], w.shape[0], modulated=tau is not None),
        reward=rewards,
        rule=constants,
        decay_eligibility=0.0 if tau is None else math.exp(-step / tau),
        scale=1.0 / max(batch, 1) if reduction == "mean" else 1.0,
        each_step=update == "step",
        norm=target,
    )


def check_values(op: str, pre: Tensor, post: Tensor, signals: dict[str, Tensor]) -> None:
    """Require finite signals, and spikes of 0 and 1 in the last step: reading all would take as long as the kernel."""
    for name, value in (("pre", pre), ("post", post)):
        last = value[-1:].detach()
        if not last.is_floating_point() or not check.reads_values(True, last.device):
            continue
        if not bool(((last == 0) | (last == 1)).all()):
            raise ValueError(
                f"{op}: {name} must be spikes, 0 or 1, got values from {last.min().item():g} to {last.max().item():g}; "
                f"pass a membrane potential as v_{name}= to a plasticity.OwnRule that reads it; x != 0 makes spikes of "
                "other values"
            )
    for name, signal in signals.items():
        check.finite(op, name, signal)


def check_signals(
    op: str, signals: dict[str, Tensor], rule: Rule | OwnRule, w: Tensor, pre: Tensor, post: Tensor
) -> None:
    for name, value in signals.items():
        if not name.endswith(("_pre", "_post")) or name.startswith("_") or name in SYNAPSE:
            hint = check.suggestion(name, stdp_.check.__kwdefaults__ or ())
            raise TypeError(
                f"{op}: there is no argument {name!r}{hint}; a name of a signal ends in _pre or _post, and is none of "
                f"{', '.join(SYNAPSE)}"
            )
        if isinstance(rule, Rule):
            raise TypeError(f"{op}: {name} must be left out: a plasticity.OwnRule reads signals, not this rule")
        check.tensor_of(op, name, value, (pre if is_presynaptic(name) else post).shape, w.dtype, w.device)


def started(
    op: str, state: object, w: Tensor, batch: int, n_pre: int, n_post: int, *, modulated: bool = False
) -> StdpState:
    """Return a copy of a state, which is checked, or the state at rest for None."""
    shapes = [(batch, n_pre), (batch, n_pre), (batch, n_post), (batch, n_post), (batch, *w.shape)]
    if state is None:
        values = [w.new_zeros(shape) for shape in shapes[: 5 if modulated else 4]]
        return StdpState._make(values if modulated else [*values, None])
    if not isinstance(state, StdpState):
        raise TypeError(f"{op}: state must be a StdpState or None, got {type(state).__name__}")
    if (state.eligibility is not None) != modulated:
        wanted = "a tensor, since rule is" if modulated else "None, since rule is not"
        raise ValueError(f"{op}: state.eligibility must be {wanted} reward-modulated")
    for name, value, shape in zip(StdpState._fields, state, shapes[: 5 if modulated else 4]):
        check.tensor_of(op, f"state.{name}", value, shape, w.dtype, w.device)
    return StdpState._make(
        None if v is None else v.detach().clone(memory_format=torch.contiguous_format) for v in state
    )


def rewards_of(op: str, reward: object, rule: Rule | OwnRule, w: Tensor, pre: Tensor, validate: bool) -> Tensor | None:
    """Check ``reward``, which a rule may need; return it as contiguous [T, B] in the dtype of ``w``, or None."""
    tau, shape = rule.tau_eligibility, pre.shape[:2]
    if (tau is None) != (reward is None) and (tau is not None or isinstance(rule, Rule)):
        raise ValueError(
            f"{op}: reward must be None, since rule is not reward-modulated"
            if tau is None
            else f"{op}: reward must be given, since rule is reward-modulated"
        )
    if reward is None:
        return None
    if not isinstance(reward, Tensor):
        return w.new_full(shape, check.number(op, "reward", reward))
    if reward.dtype not in check.FLOATING:
        raise TypeError(f"{op}: reward must be floating point, got {reward.dtype}")
    if reward.shape not in ((), shape[:1], shape):
        raise ValueError(
            f"{op}: reward must be a number or have shape [{shape[0]}] or {list(shape)}, got {list(reward.shape)}"
        )
    check.on_device(op, "reward", reward, "w", w.device)
    if validate:
        check.finite(op, "reward", reward)
    values = reward.detach().to(w.dtype)
    return (values[:, None] if values.dim() == 1 else values).expand(shape).contiguous()
