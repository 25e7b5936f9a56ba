"""Conductance-based synapses of :func:`snnfast.ops.diehl_cook_`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.plasticity import Constants, Rule

from . import presentations
from .call import Changed, ChangedList
from .diehl_cook_arguments import (
    OP,
    DiehlCookState,
    Setting,
    own_state,
    part_of_network,
    plastic_weights,
    rules_of,
    settings_of_networks,
    whole_steps,
)
from .exp import exp_nonpositive
from .networks import networks_of
from .presentations import Events, Presentations, Rates, spikes_of
from .stdp import normalize

# Settings in which networks may differ, in the order of the kernel.
NUMBERS = ("rule", "norm", "exc", "inh", "g", "theta_plus", "theta_decay")

# Arguments that conductance-based synapses have beside those of both kinds, with their defaults.
CONDUCTANCE: dict[str, Any] = {
    "dt": 0.5,
    "delays": None,
    "longest_delay": None,
    "rest": 150.0,
    "v_rest": -65.0,
    "v_reset": -65.0,
    "v_threshold": -72.0,
    "tau_inh": 10.0,
    "v_rest_inh": -60.0,
    "v_reset_inh": -45.0,
    "v_threshold_inh": -40.0,
    "refractory_inh": 2.0,
    "tau_g_exc": 1.0,
    "tau_g_inh": 2.0,
    "e_exc": 0.0,
    "e_inh": -100.0,
    "w_exc_inh": 10.4,
    "w_inh_exc": 17.0,
}


class PopulationConstants(NamedTuple):
    """Membrane constants of a population: potentials in mV, ``rate`` = dt / tau, ``refractory`` in steps."""

    rate: float
    v_rest: float
    v_reset: float
    v_threshold: float
    refractory: int


class Conductances(NamedTuple):
    """Conductance constants of both populations.

    Attributes:
        e_exc, e_inh: reversal potentials, mV.
        decay_exc, decay_inh: decay per step.
        mean_exc, mean_inh: mean over a step of a conductance that starts at 1.
        w_exc_inh: weight from an excitatory neuron to its inhibitory partner.
        w_inh_exc: weight from an inhibitory neuron to all excitatory neurons but its partner.
    """

    e_exc: float
    e_inh: float
    decay_exc: float
    decay_inh: float
    mean_exc: float
    mean_inh: float
    w_exc_inh: float
    w_inh_exc: float


class DiehlCookConductanceCall(NamedTuple):
    """See :func:`snnfast.ops.diehl_cook_`; time in steps.

    Attributes:
        longest_delay: upper bound of the delays; 0 without delays.
        learns: whether there is a rule.
        rule: constants of the rule.
        norm: sum of the weights of a neuron; 0: no normalisation.
        theta_decay: decay of the threshold per step; 1: none.
        numbers: as in :class:`DiehlCookCall`.
        state: initial state, a copy that the op updates; empty if no state is passed or returned.
        carry: start from the state; else each presentation starts at rest.
    """

    w: Changed
    theta: Changed
    x: Presentations
    rest_steps: int
    delays: Tensor | None
    longest_delay: int
    learns: bool
    rule: Constants
    norm: float
    exc: PopulationConstants
    inh: PopulationConstants
    g: Conductances
    theta_plus: float
    theta_decay: float
    numbers: Tensor | None
    state: ChangedList
    carry: bool
    return_spikes: bool
    return_state: bool

    @property
    def steps(self) -> int:
        """Number of steps of a presentation, rest included."""
        return self.x.shape[1] + self.rest_steps

    def network(self, k: int) -> DiehlCookConductanceCall:
        """Return the call of network ``k``, which changes its part of the tensors."""
        delays = None if self.delays is None else self.delays[k]
        return self._replace(**part_of_network(self, k, NUMBERS), delays=delays)

    def state_after(self) -> DiehlCookState:
        """Return the state that the call changes."""
        return DiehlCookState._make((*self.state, None))


LONGEST_DELAY = 255  # largest uint8


def present_conductance(call: DiehlCookConductanceCall) -> tuple[Tensor, Tensor]:
    """Run P presentations of one network; return spike counts and spikes."""
    P, (neurons, sources) = call.x.shape[0], call.w.shape
    every = torch.ones(neurons, dtype=torch.bool, device=call.w.device)
    spikes = call.w.new_zeros((P, call.steps, neurons), dtype=torch.bool)
    delays = torch.zeros_like(call.w, dtype=torch.uint8) if call.delays is None else call.delays
    delays = delays.to(torch.int64).clamp(max=call.longest_delay)
    rest = at_rest(call.w, call.longest_delay, call.exc.v_rest, call.inh.v_rest)
    state = call.state_after() if call.carry else rest
    for p in range(P):
        if not call.carry:
            state = rest
        if call.learns and call.norm > 0:
            normalize(call.w, every, call.norm, call.rule)
        inputs = spikes_of(call.x, p, sources)
        no_input = inputs.new_zeros((call.rest_steps, sources))
        for t, fired in enumerate(torch.cat((inputs, no_input))):
            spikes[p, t], state = step(call, state, fired, delays)
    for saved, last in zip(call.state, state):
        saved.copy_(last)  # type: ignore[arg-type]
    return spikes.sum(1, dtype=torch.int32), spikes


def step(call: DiehlCookConductanceCall, s: Any, inputs: Tensor, delays: Tensor) -> tuple[Tensor, DiehlCookState]:
    """Return the spikes ``[N]`` of the excitatory neurons in a step, and the next state."""
    g = call.g
    v = membrane(call.exc, s.v, s.refractory, g.e_exc, s.g_exc * g.mean_exc, g.e_inh, s.g_inh * g.mean_inh)
    v_inh = membrane(call.inh, s.v_inh, s.refractory_inh, g.e_exc, s.g_exc_inh * g.mean_exc)
    call.theta.mul_(call.theta_decay)
    spikes = (s.refractory == 0) & (v >= (call.exc.v_threshold + call.theta).to(v.dtype))
    spikes_inh = (s.refractory_inh == 0) & (v_inh >= call.inh.v_threshold)

    window = torch.cat((s.last_inputs, inputs[None]))
    g_exc = fade(s.g_exc, g.decay_exc)
    # One after the other, earlier spikes first, so that sums round as in the kernels.
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
        refractory=refractory_steps(call.exc, s.refractory, spikes),
        v_inh=torch.where(spikes_inh, call.inh.v_reset, v_inh),
        g_exc_inh=g_exc_inh,
        refractory_inh=refractory_steps(call.inh, s.refractory_inh, spikes_inh),
        last_inputs=window[1:],
    )
    if call.learns:
        arrived = window.gather(0, call.longest_delay - delays)  # [N, I]
        s = learn(call, s, inputs, arrived, spikes, delays)
    return spikes, s


def learn(
    call: DiehlCookConductanceCall, s: DiehlCookState, inputs: Tensor, arrived: Tensor, post: Tensor, delays: Tensor
) -> DiehlCookState:
    """Update traces, then weights; a synapse uses the spikes and traces of its input from one delay ago."""
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
    a: PopulationConstants,
    v: Tensor,
    refractory: Tensor,
    e_exc: float,
    g_exc: Tensor,
    e_inh: float = 0.0,
    g_inh: Tensor | None = None,
) -> Tensor:
    """Step ``tau dv/dt = (v_rest - v) + g_exc (e_exc - v) + g_inh (e_inh - v)``, exact for these conductances.

    The membrane of a refractory neuron does not change.
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
    """Return ``x`` after a decay; values below 1e-30 become 0, since subnormal numbers slow processors down."""
    faded = x * decay
    return torch.where(faded < 1e-30, 0.0, faded)


def refractory_steps(a: PopulationConstants, before: Tensor, spikes: Tensor) -> Tensor:
    """Return the remaining refractory steps."""
    return torch.where(spikes, a.refractory, (before - 1).clamp(min=0)).to(torch.int32)


def conductance_call(
    x: Tensor | Events | Rates,
    w: Tensor,
    theta: Tensor,
    *,
    rule: Rule | Sequence[Rule] | None,
    norm: Setting | None,
    state: DiehlCookState | None,
    delays: Tensor | None,
    longest_delay: int | None,
    dt: float,
    rest: float,
    refractory: float,
    refractory_inh: float,
    return_spikes: bool,
    return_state: bool,
    validate: bool,
    **values: Any,
) -> DiehlCookConductanceCall:
    """Check the arguments of :func:`snnfast.ops.diehl_cook_`; ``values``: settings in which networks may differ."""
    op = OP
    plastic_weights(op, w, theta, rule, validate, theta_dtype=torch.float64)
    rules = rules_of(op, w, rule)
    if any(item.w_min < 0 for item in rules):
        least = min(item.w_min for item in rules)
        raise ValueError(f"{op}: rule.w_min must be at least 0, a conductance, got {least:g}")
    if validate and rule is None:
        check.in_range(op, "w", w.detach(), 0.0, math.inf)
    step = check.positive(op, "dt", dt)
    stimuli = presentations.presentations(op, x, w.shape[-1], w.device, step, validate, networks_of(w))
    longest = _longest(op, delays, longest_delay, w, validate)

    def steps(name: str, value: float) -> int:
        return whole_steps(op, name, value, step)

    def mean(tau: float) -> float:
        """Return the mean of exp(-t / tau) over a step."""
        return -math.expm1(-step / tau) * tau / step

    def neuron_settings(op: str, **values: float) -> dict[str, Any]:
        def decay(name: str) -> float:
            return math.exp(-step / check.positive(op, name, values[name]))

        def population(suffix: str, refractory: int) -> PopulationConstants:
            return PopulationConstants(
                rate=step / check.positive(op, f"tau{suffix}", values[f"tau{suffix}"]),
                v_rest=check.number(op, f"v_rest{suffix}", values[f"v_rest{suffix}"]),
                v_reset=check.number(op, f"v_reset{suffix}", values[f"v_reset{suffix}"]),
                v_threshold=check.number(op, f"v_threshold{suffix}", values[f"v_threshold{suffix}"]),
                refractory=refractory,
            )

        exc, inh = population("", blocked[0]), population("_inh", blocked[1])
        return {
            "exc": exc,
            "inh": inh,
            "g": Conductances(
                e_exc=check.number(op, "e_exc", values["e_exc"]),
                e_inh=check.number(op, "e_inh", values["e_inh"]),
                decay_exc=decay("tau_g_exc"),
                decay_inh=decay("tau_g_inh"),
                mean_exc=mean(values["tau_g_exc"]),
                mean_inh=mean(values["tau_g_inh"]),
                w_exc_inh=check.at_least_zero(op, "w_exc_inh", values["w_exc_inh"]),
                w_inh_exc=check.at_least_zero(op, "w_inh_exc", values["w_inh_exc"]),
            ),
        }

    blocked = steps("refractory", refractory), steps("refractory_inh", refractory_inh)
    settings = settings_of_networks(op, w, step, neuron_settings, rule=rule, norm=norm, **values)
    initial = own_state(
        op,
        state,
        "conductance",
        return_state,
        w.device,
        lambda: at_rest(w, longest, values["v_rest"], values["v_rest_inh"]),
    )
    return DiehlCookConductanceCall(
        w=w.detach(),
        theta=theta.detach(),
        x=stimuli,
        rest_steps=steps("rest", rest),
        delays=delays,
        longest_delay=longest,
        learns=rule is not None,
        **settings,
        state=[] if initial is None else [value for value in initial if value is not None],
        carry=state is not None,
        return_spikes=check.flag(op, "return_spikes", return_spikes),
        return_state=check.flag(op, "return_state", return_state),
    )


def at_rest(w: Tensor, longest_delay: int, v_rest: Setting, v_rest_inh: Setting) -> DiehlCookState:
    """Return the resting state of a network."""

    def resting(v: Setting) -> Tensor:
        if not isinstance(v, Sequence):
            return torch.full_like(zeros, v)
        return torch.tensor(v, dtype=w.dtype).to(w.device)[:, None].expand_as(zeros).clone()

    *networks, n, i = w.shape
    zeros = w.new_zeros((*networks, n))
    steps = zeros.to(torch.int32)
    history = w.new_zeros((*networks, longest_delay + 1, i))
    return DiehlCookState(
        v=resting(v_rest),
        g_exc=zeros.clone(),
        g_inh=zeros.clone(),
        refractory=steps.clone(),
        v_inh=resting(v_rest_inh),
        g_exc_inh=zeros.clone(),
        refractory_inh=steps.clone(),
        trace_pre=history.clone(),
        trace_pre2=history.clone(),
        trace_post=zeros.clone(),
        trace_post2=zeros.clone(),
        last_inputs=w.new_zeros((*networks, longest_delay, i), dtype=torch.bool),
        last_spikes=None,
    )


def _longest(op: str, delays: Tensor | None, limit: int | None, w: Tensor, validate: bool) -> int:
    """Return the upper bound of the delays; with ``validate``, check that they do not exceed a given ``limit``."""
    if delays is None:
        if limit is not None:
            raise ValueError(f"{op}: longest_delay must be None without delays, got {limit}")
        return 0
    check.tensor_of(op, "delays", delays, w.shape, torch.uint8, w.device)
    if limit is not None and check.integer(op, "longest_delay", limit, 0) > LONGEST_DELAY:
        raise ValueError(f"{op}: longest_delay must be at most {LONGEST_DELAY} steps, got {limit}")
    if not check.reads_values(validate or limit is None, w.device):
        return LONGEST_DELAY if limit is None else limit
    longest = int(delays.max()) if delays.numel() else 0
    if limit is not None and longest > limit:
        raise ValueError(f"{op}: delays must be at most longest_delay, {limit} steps, got {longest}")
    return longest if limit is None else limit
