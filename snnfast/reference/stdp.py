"""Spike-timing-dependent plasticity in plain PyTorch: what the kernels of ``snnfast.ops.stdp`` must compute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.plasticity import Rule
from snnfast.reference.poisson import SPIKE_DTYPES, _is_recorded, check_range

OP = "stdp"
DTYPES = (torch.float32, torch.float64)
Reduction = Literal["sum", "mean"]
Update = Literal["step", "sequence"]


class StdpState(NamedTuple):
    """What synapses remember from one step to the next, besides their weights.

    Attributes:
        trace_pre, trace_pre2: first and second traces of the presynaptic neurons ``[B, N_pre]``.
        trace_post, trace_post2: those of the postsynaptic neurons ``[B, N_post]``.
        eligibility: eligibility traces ``[B, N_post, N_pre]`` of a reward-modulated rule, else None.
    """

    trace_pre: Tensor
    trace_pre2: Tensor
    trace_post: Tensor
    trace_post2: Tensor
    eligibility: Tensor | None


@dataclass(frozen=True)
class Settings:
    """The checked arguments of a call; the tensors of ``state`` are the call's own."""

    state: StdpState
    reward: Tensor | None
    decay_eligibility: float
    scale: float
    each_step: bool
    norm: float


def stdp(
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    *,
    rule: Rule,
    dt: float = 1.0,
    state: StdpState | None = None,
    reward: float | Tensor | None = None,
    reduction: Reduction = "sum",
    update: Update = "step",
    norm: float | None = None,
    validate: bool = True,
) -> StdpState:
    """See :func:`snnfast.ops.stdp`."""
    settings = prepare(
        w,
        pre,
        post,
        rule=rule,
        dt=dt,
        state=state,
        reward=reward,
        reduction=reduction,
        update=update,
        norm=norm,
        validate=validate,
    )
    w, pre, post = w.detach(), pre.detach() != 0, post.detach() != 0
    x_pre, x_pre2, x_post, x_post2, eligibility = settings.state
    decay_pre, decay_post, decay_pre2, decay_post2 = rule.constants(dt)[2:6]
    time_steps = pre.shape[0]
    grown, lost = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(time_steps):
        x_pre = trace(rule, x_pre * decay_pre, pre[t])
        x_post = trace(rule, x_post * decay_post, post[t])
        x_pre2, x_post2 = x_pre2 * decay_pre2, x_post2 * decay_post2
        for b in range(pre.shape[1]):
            fired, pair = (pre[t, b], post[t, b]), (x_pre[b], x_pre2[b], x_post[b], x_post2[b])
            if eligibility is None:
                _add(grown, lost, w, rule, *fired, *pair)
            else:
                assert settings.reward is not None
                up, down = torch.zeros_like(w), torch.zeros_like(w)
                _add(up, down, w, rule, *fired, *pair)
                eligibility[b] = eligibility[b] * settings.decay_eligibility + (up - down)
                grown += settings.reward[t, b] * eligibility[b]
        x_pre2, x_post2 = trace(rule, x_pre2, pre[t]), trace(rule, x_post2, post[t])
        if settings.each_step or t == time_steps - 1:
            w.copy_((w + (grown - lost) * settings.scale).clamp(rule.w_min, rule.w_max))
            grown, lost = torch.zeros_like(w), torch.zeros_like(w)
    if settings.norm > 0:
        normalise(w, w.new_ones(len(w), dtype=torch.bool), settings.norm, rule)
    return StdpState(x_pre, x_pre2, x_post, x_post2, eligibility)


def _add(
    grown: Tensor,
    lost: Tensor,
    w: Tensor,
    rule: Rule,
    pre: Tensor,
    post: Tensor,
    x_pre: Tensor,
    x_pre2: Tensor,
    x_post: Tensor,
    x_post2: Tensor,
) -> None:
    """Adds what one step of one sample of the batch changes in weights ``w``."""
    if post.any():
        grown[post] += rule.potentiation(w[post], x_pre, x_post2[post, None])
    if rule.depresses and pre.any():
        lost[:, pre] += rule.depression(w[:, pre], x_post[:, None], x_pre2[pre])


def trace(rule: Rule, decayed: Tensor, spikes: Tensor) -> Tensor:
    """A trace after the decay and, where ``spikes`` is True, the spike."""
    return torch.where(spikes, decayed + 1 if rule.trace == "all" else 1.0, decayed)


def normalise(w: Tensor, rows: Tensor, norm: float, rule: Rule) -> None:
    """Scales the rows of ``w`` where ``rows`` is True to a sum of magnitudes ``norm``; rows of zeros stay.

    The sum is in float64 and in order; the result stays within the rule's bounds.
    """
    for j in rows.nonzero().flatten().tolist():
        values = w[j].double()
        total = values.abs().cumsum(0)[-1].item() if values.numel() else 0.0  # one after the other
        if total > 0:
            w[j] = (values * (norm / total)).to(w.dtype).clamp(rule.w_min, rule.w_max)


def prepare(
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    *,
    rule: Rule,
    dt: float,
    state: StdpState | None,
    reward: float | Tensor | None,
    reduction: str,
    update: str,
    norm: float | None,
    validate: bool,
) -> Settings:
    """Checks the arguments of :func:`stdp`; nothing is changed."""
    _tensors(w, pre, post)
    if not isinstance(rule, Rule):
        raise TypeError(
            f"{OP}: rule must be a rule of snnfast.plasticity, got {type(rule).__name__}"
        )
    step = _positive("dt", dt)
    for name, value, choices in (
        ("reduction", reduction, ("sum", "mean")),
        ("update", update, ("step", "sequence")),
    ):
        if value not in choices:
            raise ValueError(f"{OP}: {name} must be {' or '.join(choices)}, got {value!r}")
    target = 0.0 if norm is None else _positive("norm", norm)
    batch, tau = pre.shape[1], rule.tau_eligibility
    if (tau is None) != (reward is None):
        raise ValueError(
            f"{OP}: reward must be None, since rule is not reward-modulated"
            if tau is None
            else f"{OP}: reward must be given, since rule is reward-modulated"
        )
    rewards = None if reward is None else _reward(reward, w, pre, validate)
    if state is not None:
        _state(state, w, batch, tau is not None)
    if validate:
        check_range(OP, "w", w.detach(), rule.w_min, rule.w_max)
    return Settings(
        state=rest(w, batch, rule) if state is None else _own(state),
        reward=rewards,
        decay_eligibility=0.0 if tau is None else math.exp(-step / tau),
        scale=1.0 / max(batch, 1) if reduction == "mean" else 1.0,
        each_step=update == "step",
        norm=target,
    )


def rest(w: Tensor, batch: int, rule: Rule) -> StdpState:
    """The state of synapses whose neurons have been silent for long."""
    n_post, n_pre = w.shape
    pre, post = w.new_zeros((batch, n_pre)), w.new_zeros((batch, n_post))
    eligibility = None if rule.tau_eligibility is None else w.new_zeros((batch, n_post, n_pre))
    return StdpState(pre, pre.clone(), post, post.clone(), eligibility)


def _own(state: StdpState) -> StdpState:
    pre, pre2, post, post2 = map(_copy, state[:4])
    eligibility = None if state.eligibility is None else _copy(state.eligibility)
    return StdpState(pre, pre2, post, post2, eligibility)


def _copy(value: Tensor) -> Tensor:
    return value.detach().clone(memory_format=torch.contiguous_format)


def _tensors(w: Tensor, pre: Tensor, post: Tensor) -> None:
    for name, value in (("w", w), ("pre", pre), ("post", post)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{OP}: {name} must be a tensor, got {type(value).__name__}")
    if w.dtype not in DTYPES:
        raise TypeError(f"{OP}: w must have dtype float32 or float64, got {w.dtype}")
    if w.dim() != 2:
        raise ValueError(f"{OP}: w must have shape [N_post, N_pre], got {list(w.shape)}")
    for name, value, neurons in (("pre", pre, w.shape[1]), ("post", post, w.shape[0])):
        if value.dtype not in SPIKE_DTYPES:
            names = ", ".join(str(d).removeprefix("torch.") for d in SPIKE_DTYPES)
            raise TypeError(f"{OP}: {name} must have one of the dtypes {names}, got {value.dtype}")
        if value.dim() != 3 or value.shape[2] != neurons:
            raise ValueError(
                f"{OP}: {name} must have shape [T, B, {neurons}], got {list(value.shape)}"
            )
        if value.device != w.device:
            raise ValueError(
                f"{OP}: {name} must be on the device of w, {w.device}, got {value.device}"
            )
    if post.shape[:2] != pre.shape[:2]:
        raise ValueError(
            f"{OP}: post must have the T and B of pre, {list(pre.shape[:2])}, got {list(post.shape[:2])}"
        )


def _reward(reward: object, w: Tensor, pre: Tensor, validate: bool) -> Tensor:
    """``reward`` as contiguous [T, B] in the dtype of ``w``."""
    shape = pre.shape[:2]
    if not isinstance(reward, Tensor):
        return w.new_full(shape, check.number(OP, "reward", reward))
    if reward.dtype not in check.FLOATING:
        raise TypeError(f"{OP}: reward must be floating point, got {reward.dtype}")
    if reward.shape not in ((), shape[:1], shape):
        raise ValueError(
            f"{OP}: reward must be a number or have shape [{shape[0]}] or {list(shape)}, got {list(reward.shape)}"
        )
    if reward.device != w.device:
        raise ValueError(
            f"{OP}: reward must be on the device of w, {w.device}, got {reward.device}"
        )
    if validate and not _is_recorded(w.device) and not bool(reward.isfinite().all()):
        raise ValueError(f"{OP}: reward must be finite")
    values = reward.detach().to(w.dtype)
    return (values[:, None] if values.dim() == 1 else values).expand(shape).contiguous()


def _state(state: object, w: Tensor, batch: int, modulated: bool) -> None:
    if not isinstance(state, StdpState):
        raise TypeError(f"{OP}: state must be a StdpState or None, got {type(state).__name__}")
    n_post, n_pre = w.shape
    shapes = [[batch, n_pre]] * 2 + [[batch, n_post]] * 2 + [[batch, n_post, n_pre]]
    for name, value, shape in zip(StdpState._fields, state, shapes, strict=True):
        if name == "eligibility" and (value is None or not modulated):
            if modulated or value is not None:
                wanted = "a tensor, since rule is" if modulated else "None, since rule is not"
                raise ValueError(f"{OP}: state.eligibility must be {wanted} reward-modulated")
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"{OP}: state.{name} must be a tensor, got {type(value).__name__}")
        if list(value.shape) != shape:
            raise ValueError(f"{OP}: state.{name} must have shape {shape}, got {list(value.shape)}")
        if value.dtype != w.dtype:
            raise TypeError(
                f"{OP}: state.{name} must have the dtype of w, {w.dtype}, got {value.dtype}"
            )
        if value.device != w.device:
            raise ValueError(
                f"{OP}: state.{name} must be on the device of w, {w.device}, got {value.device}"
            )


def _positive(name: str, value: object) -> float:
    result = check.number(OP, name, value)
    if result <= 0:
        raise ValueError(f"{OP}: {name} must be positive, got {result:g}")
    return result
