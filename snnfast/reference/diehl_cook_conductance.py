"""The network of Diehl and Cook with conductances, in plain PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.calls.presentations import Events, Presentations, Rates, presentations
from snnfast.plasticity import Constants, Rule
from snnfast.reference.diehl_cook import plastic_weights
from snnfast.reference.exp import exp_nonpositive
from snnfast.reference.presentations import spikes_of
from snnfast.reference.stdp import normalise

OP = "diehl_cook_conductance"


class DiehlCookConductanceState(NamedTuple):
    """Everything the network remembers from one step to the next, besides weights and thresholds.

    D is the longest of the delays, in steps; 0 without delays.

    Attributes:
        v: membrane of the excitatory neurons ``[N]``, mV.
        g_exc, g_inh: their excitatory and inhibitory conductance ``[N]``, in units of the leak.
        refractory: steps for which they are still refractory, int32 ``[N]``.
        v_inh, g_exc_inh, refractory_inh: the same of the inhibitory neurons, which nothing inhibits.
        trace_pre, trace_pre2: traces of the inputs in the last D + 1 steps, the oldest first ``[D + 1, I]``.
        trace_post, trace_post2: traces of the excitatory neurons ``[N]``.
        last_inputs: spikes of the inputs in the last D steps, the oldest first, bool ``[D, I]``.
    """

    v: Tensor
    g_exc: Tensor
    g_inh: Tensor
    refractory: Tensor
    v_inh: Tensor
    g_exc_inh: Tensor
    refractory_inh: Tensor
    trace_pre: Tensor
    trace_pre2: Tensor
    trace_post: Tensor
    trace_post2: Tensor
    last_inputs: Tensor


class DiehlCookConductanceResult(NamedTuple):
    """What P presentations of T steps and R steps of rest gave.

    Attributes:
        counts: spikes of every excitatory neuron in every presentation, rest included, int32 ``[P, N]``.
        spikes: the same step by step, bool ``[P, T + R, N]``; None unless asked for.
        state: after the last step; None unless asked for.
    """

    counts: Tensor
    spikes: Tensor | None
    state: DiehlCookConductanceState | None


@dataclass(frozen=True)
class Population:
    """One population's membrane: potentials in mV, ``rate`` = dt / tau, ``refractory`` in steps."""

    rate: float
    v_rest: float
    v_reset: float
    v_threshold: float
    refractory: int


@dataclass(frozen=True)
class Settings:
    """The checked numbers of a call, in steps and per step."""

    x: Presentations
    rule: Constants | None
    steps: int
    rest_steps: int
    exc: Population
    inh: Population
    e_exc: float
    e_inh: float
    decay_exc: float
    decay_inh: float
    mean_exc: float
    mean_inh: float
    w_exc_inh: float
    w_inh_exc: float
    theta_plus: float
    theta_decay: float
    norm: float
    longest_delay: int


def diehl_cook_conductance(
    x: Tensor | Events | Rates,
    w: Tensor,
    theta: Tensor,
    *,
    rule: Rule | None = None,
    norm: float | None = None,
    state: DiehlCookConductanceState | None = None,
    delays: Tensor | None = None,
    dt: float = 0.5,
    rest: float = 150.0,
    tau: float = 100.0,
    v_rest: float = -65.0,
    v_reset: float = -65.0,
    v_threshold: float = -72.0,
    refractory: float = 5.0,
    tau_inh: float = 10.0,
    v_rest_inh: float = -60.0,
    v_reset_inh: float = -45.0,
    v_threshold_inh: float = -40.0,
    refractory_inh: float = 2.0,
    tau_g_exc: float = 1.0,
    tau_g_inh: float = 2.0,
    e_exc: float = 0.0,
    e_inh: float = -100.0,
    w_exc_inh: float = 10.4,
    w_inh_exc: float = 17.0,
    theta_plus: float = 0.05,
    tau_theta: float | None = 1e7,
    return_spikes: bool = False,
    return_state: bool = False,
    validate: bool = True,
) -> DiehlCookConductanceResult:
    """See :func:`snnfast.ops.diehl_cook_conductance`."""
    settings = prepare(
        x,
        w,
        theta,
        rule=rule,
        norm=norm,
        state=state,
        delays=delays,
        dt=dt,
        rest=rest,
        tau=tau,
        v_rest=v_rest,
        v_reset=v_reset,
        v_threshold=v_threshold,
        refractory=refractory,
        tau_inh=tau_inh,
        v_rest_inh=v_rest_inh,
        v_reset_inh=v_reset_inh,
        v_threshold_inh=v_threshold_inh,
        refractory_inh=refractory_inh,
        tau_g_exc=tau_g_exc,
        tau_g_inh=tau_g_inh,
        e_exc=e_exc,
        e_inh=e_inh,
        w_exc_inh=w_exc_inh,
        w_inh_exc=w_inh_exc,
        theta_plus=theta_plus,
        tau_theta=tau_theta,
        validate=validate,
    )
    network = _Network(w, theta, delays, settings)
    network.state = (
        at_rest(w, settings)
        if state is None
        else DiehlCookConductanceState(*(s.clone() for s in state))
    )
    counts, raster = [], []
    for p in range(settings.x.shape[0]):
        if state is None:
            network.state = at_rest(w, settings)
        spikes = network.present(spikes_of(settings.x, p, w.shape[1]))
        counts.append(spikes.sum(0, dtype=torch.int32))
        if return_spikes:
            raster.append(spikes)
    n = w.shape[0]
    steps = settings.steps + settings.rest_steps
    return DiehlCookConductanceResult(
        torch.stack(counts) if counts else w.new_empty((0, n), dtype=torch.int32),
        (torch.stack(raster) if raster else w.new_empty((0, steps, n), dtype=torch.bool))
        if return_spikes
        else None,
        network.state if return_state else None,
    )


class _Network:
    """One step after the other, one population after the other, as the equations are written."""

    state: DiehlCookConductanceState

    def __init__(
        self,
        w: Tensor,
        theta: Tensor,
        delays: Tensor | None,
        settings: Settings,
    ) -> None:
        self.w, self.theta, self.rule, self.settings = w, theta, settings.rule, settings
        self.delays = (
            torch.zeros(w.shape, dtype=torch.int64, device=w.device)
            if delays is None
            else delays.to(torch.int64)
        )

    def present(self, inputs: Tensor) -> Tensor:
        """Spikes ``[T + R, N]`` in response to spikes ``[T, I]`` and the rest after them; learns."""
        a = self.settings
        if self.rule is not None and a.norm > 0:
            every = torch.ones(self.w.shape[0], dtype=torch.bool, device=self.w.device)
            normalise(self.w, every, a.norm, self.rule)
        silence = inputs.new_zeros((a.rest_steps, inputs.shape[1]))
        spikes = inputs.new_zeros((a.steps + a.rest_steps, self.w.shape[0]))
        for t, fired in enumerate(torch.cat((inputs, silence))):
            spikes[t] = self.step(fired)
        return spikes

    def step(self, inputs: Tensor) -> Tensor:
        """Spikes ``[N]`` of the excitatory neurons."""
        a, s = self.settings, self.state
        v = membrane(
            a.exc,
            s.v,
            s.refractory,
            a.e_exc,
            s.g_exc * a.mean_exc,
            a.e_inh,
            s.g_inh * a.mean_inh,
        )
        v_inh = membrane(a.inh, s.v_inh, s.refractory_inh, a.e_exc, s.g_exc_inh * a.mean_exc)
        self.theta *= a.theta_decay
        spikes = (s.refractory == 0) & (v >= (a.exc.v_threshold + self.theta).to(v.dtype))
        spikes_inh = (s.refractory_inh == 0) & (v_inh >= a.inh.v_threshold)

        window = torch.cat((s.last_inputs, inputs[None]))
        arrived = window.gather(0, a.longest_delay - self.delays)  # [N, I]
        g_exc = fade(s.g_exc, a.decay_exc)
        # One after the other, what was sent first first, so that sums round alike everywhere.
        for delay in range(a.longest_delay, -1, -1):
            for i in window[a.longest_delay - delay].nonzero().flatten().tolist():
                g_exc = torch.where(self.delays[:, i] == delay, g_exc + self.w[:, i], g_exc)
        others = spikes_inh.sum() - spikes_inh.to(v.dtype)
        g_inh = fade(s.g_inh, a.decay_inh) + a.w_inh_exc * others
        g_exc_inh = fade(s.g_exc_inh, a.decay_exc) + a.w_exc_inh * spikes.to(v.dtype)

        self.theta += a.theta_plus * spikes.to(self.theta)
        self.state = s._replace(
            v=torch.where(spikes, a.exc.v_reset, v),
            g_exc=g_exc,
            g_inh=g_inh,
            refractory=_refractory(a.exc, s.refractory, spikes),
            v_inh=torch.where(spikes_inh, a.inh.v_reset, v_inh),
            g_exc_inh=g_exc_inh,
            refractory_inh=_refractory(a.inh, s.refractory_inh, spikes_inh),
            last_inputs=window[1:],
        )
        if self.rule is not None:
            self.learn(self.rule, inputs, arrived, spikes)
        return spikes

    def learn(self, rule: Constants, inputs: Tensor, arrived: Tensor, post: Tensor) -> None:
        """Traces, then weights; a synapse sees its input as it was a delay ago."""
        s = self.state
        pre, post1, pre2, post2 = (
            fade(trace, decay)
            for trace, decay in zip(
                (s.trace_pre[-1], s.trace_post, s.trace_pre2[-1], s.trace_post2),
                (rule.decay_pre, rule.decay_post, rule.decay_pre2, rule.decay_post2),
                strict=True,
            )
        )
        past = self.settings.longest_delay - self.delays
        trace_pre = torch.cat((s.trace_pre[1:], rule.trace(pre, inputs)[None]))
        before_pre2 = fade(s.trace_pre2, rule.decay_pre2).gather(0, past)
        trace_post = rule.trace(post1, post)
        change = torch.zeros_like(self.w)
        if post.any():
            at_synapse = trace_pre.gather(0, past)[post]
            change[post] += rule.potentiation(self.w[post], at_synapse, post2[post, None])
        if rule.depresses:
            lost = rule.depression(self.w, trace_post[:, None], before_pre2)
            change = torch.where(arrived, change - lost, change)
        self.w.copy_((self.w + change).clamp(rule.w_min, rule.w_max))
        self.state = s._replace(
            trace_pre=trace_pre,
            trace_pre2=torch.cat((s.trace_pre2[1:], rule.trace(pre2, inputs)[None])),
            trace_post=trace_post,
            trace_post2=rule.trace(post2, post),
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


def _refractory(a: Population, before: Tensor, spikes: Tensor) -> Tensor:
    return torch.where(spikes, a.refractory, (before - 1).clamp(min=0)).to(torch.int32)


def at_rest(w: Tensor, settings: Settings) -> DiehlCookConductanceState:
    """The state of a network that has been silent for long."""
    n, i = w.shape
    zeros = w.new_zeros(n)
    steps = torch.zeros(n, dtype=torch.int32, device=w.device)
    history = w.new_zeros((settings.longest_delay + 1, i))
    return DiehlCookConductanceState(
        v=torch.full_like(zeros, settings.exc.v_rest),
        g_exc=zeros.clone(),
        g_inh=zeros.clone(),
        refractory=steps.clone(),
        v_inh=torch.full_like(zeros, settings.inh.v_rest),
        g_exc_inh=zeros.clone(),
        refractory_inh=steps.clone(),
        trace_pre=history.clone(),
        trace_pre2=history.clone(),
        trace_post=zeros.clone(),
        trace_post2=zeros.clone(),
        last_inputs=w.new_zeros((settings.longest_delay, i), dtype=torch.bool),
    )


def prepare(
    x: object,
    w: Tensor,
    theta: Tensor,
    *,
    rule: Rule | None,
    norm: float | None,
    state: DiehlCookConductanceState | None,
    delays: Tensor | None,
    dt: float,
    rest: float,
    tau: float,
    v_rest: float,
    v_reset: float,
    v_threshold: float,
    refractory: float,
    tau_inh: float,
    v_rest_inh: float,
    v_reset_inh: float,
    v_threshold_inh: float,
    refractory_inh: float,
    tau_g_exc: float,
    tau_g_inh: float,
    e_exc: float,
    e_inh: float,
    w_exc_inh: float,
    w_inh_exc: float,
    theta_plus: float,
    tau_theta: float | None,
    validate: bool,
) -> Settings:
    """Checks the arguments of :func:`diehl_cook_conductance` and counts time in steps; nothing is changed."""
    op = OP
    plastic_weights(op, w, theta, rule, validate, theta_dtype=torch.float64)
    if rule is not None and rule.tau_eligibility is not None:
        raise ValueError(f"{op}: rule must not be reward-modulated")
    if rule is not None and rule.w_min < 0:
        raise ValueError(f"{op}: rule.w_min must be at least 0, a conductance, got {rule.w_min:g}")
    if validate and rule is None:
        check.in_range(op, "w", w.detach(), 0.0, math.inf)
    step = check.positive(op, "dt", dt)
    given = presentations(op, x, w.shape[1], w.device, step, validate)

    def steps(name: str, value: float) -> int:
        return math.ceil(check.at_least_zero(op, name, value) / step - 1e-9)

    def decay(name: str, value: float) -> float:
        return math.exp(-step / check.positive(op, name, value))

    def mean(tau: float) -> float:
        """Of exp(-t / tau) over a step."""
        return -math.expm1(-step / tau) * tau / step

    settings = Settings(
        x=given,
        rule=None if rule is None else rule.constants(step),
        steps=given.shape[1],
        rest_steps=steps("rest", rest),
        exc=Population(
            rate=step / check.positive(op, "tau", tau),
            v_rest=check.number(op, "v_rest", v_rest),
            v_reset=check.number(op, "v_reset", v_reset),
            v_threshold=check.number(op, "v_threshold", v_threshold),
            refractory=steps("refractory", refractory),
        ),
        inh=Population(
            rate=step / check.positive(op, "tau_inh", tau_inh),
            v_rest=check.number(op, "v_rest_inh", v_rest_inh),
            v_reset=check.number(op, "v_reset_inh", v_reset_inh),
            v_threshold=check.number(op, "v_threshold_inh", v_threshold_inh),
            refractory=steps("refractory_inh", refractory_inh),
        ),
        e_exc=check.number(op, "e_exc", e_exc),
        e_inh=check.number(op, "e_inh", e_inh),
        decay_exc=decay("tau_g_exc", tau_g_exc),
        decay_inh=decay("tau_g_inh", tau_g_inh),
        mean_exc=mean(tau_g_exc),
        mean_inh=mean(tau_g_inh),
        w_exc_inh=check.at_least_zero(op, "w_exc_inh", w_exc_inh),
        w_inh_exc=check.at_least_zero(op, "w_inh_exc", w_inh_exc),
        theta_plus=check.at_least_zero(op, "theta_plus", theta_plus),
        theta_decay=1.0 if tau_theta is None else decay("tau_theta", tau_theta),
        norm=0.0 if norm is None else check.positive(op, "norm", norm),
        longest_delay=_longest(op, delays, w),
    )
    if state is not None:
        _check_state(op, state, at_rest(w, settings), w.device)
    return settings


def _longest(op: str, delays: Tensor | None, w: Tensor) -> int:
    if delays is None:
        return 0
    if not isinstance(delays, Tensor):
        raise TypeError(f"{op}: delays must be a tensor or None, got {type(delays).__name__}")
    if delays.dtype != torch.uint8:
        raise TypeError(f"{op}: delays must have dtype torch.uint8, got {delays.dtype}")
    if delays.shape != w.shape:
        raise ValueError(
            f"{op}: delays must have the shape of w, {list(w.shape)}, got {list(delays.shape)}"
        )
    if delays.device != w.device:
        raise ValueError(
            f"{op}: delays must be on the device of w, {w.device}, got {delays.device}"
        )
    return int(delays.max()) if delays.numel() else 0


def _check_state(
    op: str,
    state: DiehlCookConductanceState,
    like: DiehlCookConductanceState,
    device: torch.device,
) -> None:
    if not isinstance(state, DiehlCookConductanceState):
        raise TypeError(
            f"{op}: state must be a DiehlCookConductanceState or None, got {type(state).__name__}"
        )
    for name, value, expected in zip(like._fields, state, like, strict=True):
        check.like(op, f"state.{name}", value, expected, device)
