"""The network of Diehl and Cook in plain PyTorch: what the kernels of ``snnfast.ops.diehl_cook`` must compute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.calls.presentations import Events, Presentations, Rates, presentations
from snnfast.plasticity import Constants, Rule
from snnfast.reference.presentations import spikes_of
from snnfast.reference.stdp import normalise

DTYPES = (torch.float32, torch.float64)


class DiehlCookState(NamedTuple):
    """Everything the network remembers from one step to the next, besides weights and thresholds.

    Attributes:
        v: membrane above rest ``[N]``, mV.
        refractory: steps for which a neuron is still refractory, int32 ``[N]``.
        trace_pre, trace_pre2: traces of the inputs ``[I]``.
        trace_post, trace_post2: traces of the neurons ``[N]``.
        last_input: spikes of the inputs in the last step, which the neurons are still to receive, bool ``[I]``.
        last_spikes: spikes of the neurons in the last ``inhibition_delay`` steps, the oldest first, bool ``[D, N]``.
    """

    v: Tensor
    refractory: Tensor
    trace_pre: Tensor
    trace_pre2: Tensor
    trace_post: Tensor
    trace_post2: Tensor
    last_input: Tensor
    last_spikes: Tensor


class DiehlCookResult(NamedTuple):
    """What P presentations gave.

    Attributes:
        counts: spikes of every neuron in every presentation, int32 ``[P, N]``.
        spikes: the same step by step, bool ``[P, T, N]``; None unless asked for.
        state: after the last step; None unless asked for.
    """

    counts: Tensor
    spikes: Tensor | None
    state: DiehlCookState | None


@dataclass(frozen=True)
class Settings:
    """The checked numbers of a call, in steps and per step."""

    x: Presentations
    rule: Constants | None
    steps: int
    decay: float
    v_threshold: float
    v_reset: float
    refractory: int
    inhibition: float
    inhibition_delay: int
    one_winner: bool
    theta_plus: float
    theta_decay: float
    norm: float


def diehl_cook(
    x: Tensor | Events | Rates,
    w: Tensor,
    theta: Tensor,
    *,
    rule: Rule | None = None,
    norm: float | None = None,
    state: DiehlCookState | None = None,
    dt: float = 1.0,
    tau: float = 100.0,
    v_threshold: float = 13.0,
    v_reset: float = 5.0,
    refractory: float = 5.0,
    inhibition: float = 120.0,
    inhibition_delay: int = 2,
    one_winner: bool = False,
    theta_plus: float = 0.05,
    tau_theta: float | None = None,
    return_spikes: bool = False,
    return_state: bool = False,
    validate: bool = True,
) -> DiehlCookResult:
    """See :func:`snnfast.ops.diehl_cook`."""
    settings = prepare(
        x,
        w,
        theta,
        rule=rule,
        norm=norm,
        state=state,
        dt=dt,
        tau=tau,
        v_threshold=v_threshold,
        v_reset=v_reset,
        refractory=refractory,
        inhibition=inhibition,
        inhibition_delay=inhibition_delay,
        one_winner=one_winner,
        theta_plus=theta_plus,
        tau_theta=tau_theta,
        validate=validate,
    )
    network = _Network(w, theta, settings)
    network.state = (
        rest(w, inhibition_delay) if state is None else DiehlCookState(*(s.clone() for s in state))
    )
    counts, raster = [], []
    for p in range(settings.x.shape[0]):
        if state is None:
            network.state = rest(w, inhibition_delay)
        spikes = network.present(spikes_of(settings.x, p, w.shape[1]))
        counts.append(spikes.sum(0, dtype=torch.int32))
        if return_spikes:
            raster.append(spikes)
    n = w.shape[0]
    return DiehlCookResult(
        torch.stack(counts) if counts else w.new_empty((0, n), dtype=torch.int32),
        (torch.stack(raster) if raster else w.new_empty((0, settings.steps, n), dtype=torch.bool))
        if return_spikes
        else None,
        network.state if return_state else None,
    )


class _Network:
    """One step after the other, one neuron group after the other, as the equations are written."""

    def __init__(self, w: Tensor, theta: Tensor, settings: Settings) -> None:
        self.w, self.theta, self.rule, self.settings = w, theta, settings.rule, settings

    state: DiehlCookState

    def present(self, inputs: Tensor) -> Tensor:
        """Spikes ``[T, N]`` in response to spikes ``[T, I]``; learns, and normalises the weights that it changed."""
        plastic = self.state.trace_post != 0
        spikes = inputs.new_empty((inputs.shape[0], self.w.shape[0]), dtype=torch.bool)
        for t, fired in enumerate(inputs):
            spikes[t] = self.step(fired)
            plastic |= spikes[t]
        if self.rule is not None and self.settings.norm > 0:
            normalise(self.w, plastic, self.settings.norm, self.rule)
        return spikes

    def step(self, inputs: Tensor) -> Tensor:
        """Spikes ``[N]``: dynamics first, then plasticity."""
        a, s = self.settings, self.state
        current = torch.zeros_like(s.v)
        for i in (
            s.last_input.nonzero().flatten().tolist()
        ):  # in this order, so that sums round alike everywhere
            current = current + self.w[:, i]
        if a.inhibition_delay:
            arriving = s.last_spikes[0]
            current = current - a.inhibition * (arriving.sum() - arriving.to(s.v))
        open_ = s.refractory == 0
        v = s.v * a.decay + torch.where(open_, current, 0.0)
        if a.theta_decay != 1:
            self.theta *= a.theta_decay
        margin = v - (a.v_threshold + self.theta)
        spikes = margin >= 0
        if a.one_winner and spikes.any():
            winner = margin.argmax()  # the first of equals
            spikes = torch.zeros_like(spikes)
            spikes[winner] = True
        refractory = torch.where(spikes, a.refractory, (s.refractory - 1).clamp(min=0)).to(
            torch.int32
        )
        v = torch.where(spikes, a.v_reset, v)
        if a.inhibition_delay == 0:
            hit = open_ & ~spikes
            v = torch.where(hit, v - a.inhibition * spikes.sum().to(v), v)
        self.theta += a.theta_plus * spikes.to(v)
        last_spikes = (
            torch.cat([s.last_spikes, spikes[None]])[1:] if a.inhibition_delay else s.last_spikes
        )
        self.state = s._replace(
            v=v, refractory=refractory, last_input=inputs, last_spikes=last_spikes
        )
        if self.rule is not None:
            self.learn(self.rule, inputs, spikes)
        return spikes

    def learn(self, rule: Constants, pre: Tensor, post: Tensor) -> None:
        """Traces, then weights."""
        s = self.state
        pre_decayed, post_decayed, pre2_decayed, post2_decayed = (
            trace * decay
            for trace, decay in zip(
                (s.trace_pre, s.trace_post, s.trace_pre2, s.trace_post2),
                (rule.decay_pre, rule.decay_post, rule.decay_pre2, rule.decay_post2),
                strict=True,
            )
        )
        x_pre, x_post = rule.trace(pre_decayed, pre), rule.trace(post_decayed, post)
        change = torch.zeros_like(self.w)
        if post.any():
            grown = rule.potentiation(self.w[post], x_pre, post2_decayed[post, None])
            change[post] += grown
        if rule.depresses and pre.any():
            change[:, pre] -= rule.depression(self.w[:, pre], x_post[:, None], pre2_decayed[pre])
        self.w.copy_((self.w + change).clamp(rule.w_min, rule.w_max))
        self.state = s._replace(
            trace_pre=x_pre,
            trace_post=x_post,
            trace_pre2=rule.trace(pre2_decayed, pre),
            trace_post2=rule.trace(post2_decayed, post),
        )


def rest(w: Tensor, inhibition_delay: int) -> DiehlCookState:
    """The state of a network that has been silent for long."""
    n, i = w.shape
    neurons, inputs = w.new_zeros(n), w.new_zeros(i)
    return DiehlCookState(
        neurons,
        neurons.to(torch.int32),
        inputs,
        inputs.clone(),
        neurons.clone(),
        neurons.clone(),
        inputs.bool(),
        w.new_zeros((inhibition_delay, n), dtype=torch.bool),
    )


def prepare(
    x: object,
    w: Tensor,
    theta: Tensor,
    *,
    rule: Rule | None,
    norm: float | None,
    state: DiehlCookState | None,
    dt: float,
    tau: float,
    v_threshold: float,
    v_reset: float,
    refractory: float,
    inhibition: float,
    inhibition_delay: int,
    one_winner: bool,
    theta_plus: float,
    tau_theta: float | None,
    validate: bool,
) -> Settings:
    """Checks the arguments of :func:`diehl_cook` and counts time in steps; nothing is changed."""
    op = "diehl_cook"
    plastic_weights(op, w, theta, rule, validate)
    step = _positive(op, "dt", dt)
    given = presentations(op, x, w.shape[1], w.device, step, validate)
    delay = inhibition_delay
    if isinstance(delay, bool) or not isinstance(delay, int):
        raise TypeError(
            f"{op}: inhibition_delay must be an integer number of steps, got {type(delay).__name__}"
        )
    if delay < 0:
        raise ValueError(f"{op}: inhibition_delay must be at least 0 steps, got {delay}")
    if not isinstance(one_winner, bool):
        raise TypeError(f"{op}: one_winner must be True or False, got {one_winner!r}")
    if state is not None:
        _check_state(op, state, w, delay)
    theta_decay = (
        1.0 if tau_theta is None else math.exp(-step / _positive(op, "tau_theta", tau_theta))
    )
    return Settings(
        x=given,
        rule=None if rule is None else rule.constants(step),
        steps=given.shape[1],
        decay=math.exp(-step / _positive(op, "tau", tau)),
        v_threshold=check.number(op, "v_threshold", v_threshold),
        v_reset=check.number(op, "v_reset", v_reset),
        refractory=math.ceil(_at_least_zero(op, "refractory", refractory) / step - 1e-9),
        inhibition=_at_least_zero(op, "inhibition", inhibition),
        inhibition_delay=delay,
        one_winner=one_winner,
        theta_plus=_at_least_zero(op, "theta_plus", theta_plus),
        theta_decay=theta_decay,
        norm=0.0 if norm is None else _positive(op, "norm", norm),
    )


def plastic_weights(
    op: str,
    w: Tensor,
    theta: Tensor,
    rule: Rule | None,
    validate: bool,
    theta_dtype: torch.dtype | None = None,
) -> None:
    """``w`` [N, I] and ``theta`` [N] must fit each other, and ``w`` lie within the bounds of ``rule``."""
    for name, value in (("w", w), ("theta", theta)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if w.dtype not in DTYPES:
        raise TypeError(f"{op}: w must have dtype float32 or float64, got {w.dtype}")
    if w.dim() != 2:
        raise ValueError(f"{op}: w must have shape [N, I], got {list(w.shape)}")
    if any(stride == 0 and size > 1 for stride, size in zip(w.stride(), w.shape, strict=True)):
        raise ValueError(f"{op}: w must not overlap itself, got strides {list(w.stride())}")
    if theta_dtype is not None and theta.dtype != theta_dtype:
        raise TypeError(f"{op}: theta must have dtype {theta_dtype}, got {theta.dtype}")
    if theta_dtype is None and theta.dtype != w.dtype:
        raise TypeError(f"{op}: theta must have the dtype of w, {w.dtype}, got {theta.dtype}")
    if theta.shape != w.shape[:1]:
        raise ValueError(f"{op}: theta must have shape [{w.shape[0]}], got {list(theta.shape)}")
    if theta.device != w.device:
        raise ValueError(f"{op}: theta must be on the device of w, {w.device}, got {theta.device}")
    if rule is not None and not isinstance(rule, Rule):
        raise TypeError(
            f"{op}: rule must be a rule of snnfast.plasticity or None, got {type(rule).__name__}"
        )
    if rule is not None and rule.tau_eligibility is not None:
        raise ValueError(f"{op}: rule must not wait for a reward; use snnfast.ops.stdp for that")
    if not validate:
        return
    if rule is not None:
        check.in_range(op, "w", w.detach(), rule.w_min, rule.w_max)
    elif w.numel() and not bool(w.detach().isfinite().all()):
        raise ValueError(f"{op}: w must be finite")
    if not bool(theta.detach().isfinite().all()):
        raise ValueError(f"{op}: theta must be finite")


def _check_state(op: str, state: DiehlCookState, w: Tensor, delay: int) -> None:
    if not isinstance(state, DiehlCookState):
        raise TypeError(f"{op}: state must be a DiehlCookState or None, got {type(state).__name__}")
    for name, value, expected in zip(DiehlCookState._fields, state, rest(w, delay), strict=True):
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}: state.{name} must be a tensor, got {type(value).__name__}")
        if value.shape != expected.shape:
            raise ValueError(
                f"{op}: state.{name} must have shape {list(expected.shape)}, got {list(value.shape)}"
            )
        if value.dtype != expected.dtype:
            raise TypeError(
                f"{op}: state.{name} must have dtype {expected.dtype}, got {value.dtype}"
            )
        if value.device != w.device:
            raise ValueError(
                f"{op}: state.{name} must be on the device of w, {w.device}, got {value.device}"
            )


def _positive(op: str, name: str, value: object) -> float:
    result = check.number(op, name, value)
    if result <= 0:
        raise ValueError(f"{op}: {name} must be positive, got {result:g}")
    return result


def _at_least_zero(op: str, name: str, value: object) -> float:
    result = check.number(op, name, value)
    if result < 0:
        raise ValueError(f"{op}: {name} must be at least 0, got {result:g}")
    return result
