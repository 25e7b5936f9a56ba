"""The network of Diehl and Cook, Front. Comput. Neurosci. 9:99 (2015), and its current-based synapses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.plasticity import Constants, Rule

from . import presentations
from .call import Changed, ChangedList, reference_op
from .diehl_cook_arguments import (
    OP,
    DiehlCookResult,
    DiehlCookState,
    Setting,
    own_state,
    part_of_network,
    plastic_weights,
    settings_of_networks,
    whole_steps,
)
from .diehl_cook_conductance import CONDUCTANCE, DiehlCookConductanceCall, conductance_call, present_conductance
from .networks import networks_of, one_by_one
from .presentations import Events, Presentations, Rates, spikes_of
from .stdp import normalize

# Settings in which networks may differ, in the order of the kernel.
NUMBERS = (*("rule", "norm", "decay", "v_threshold", "v_reset", "inhibition"), *("theta_plus", "theta_decay"))
# Arguments that current-based synapses have beside those of both kinds, with their defaults.
CURRENT: dict[str, Any] = {
    "dt": 1.0,
    "v_threshold": 13.0,
    "v_reset": 5.0,
    "inhibition": 120.0,
    "inhibition_delay": 2,
    "one_winner": False,
}


class DiehlCookCall(NamedTuple):
    """See :func:`diehl_cook_`; time in steps.

    Attributes:
        learns: whether there is a rule.
        rule: constants of the rule.
        decay: decay of the membrane per step.
        theta_decay: decay of the threshold per step; 1: none.
        norm: sum of the weights of a neuron; 0: no normalisation.
        numbers: float64 ``[K, M]`` if networks differ: the values of the fields ``NUMBERS`` for each network; the
            fields themselves then only say whether any network adapts.
        state: initial state, a copy that the op updates; empty if no state is passed or returned.
        carry: start from the state; else each presentation starts at rest.
    """

    w: Changed
    theta: Changed
    x: Presentations
    learns: bool
    rule: Constants
    norm: float
    decay: float
    v_threshold: float
    v_reset: float
    refractory: int
    inhibition: float
    inhibition_delay: int
    one_winner: bool
    theta_plus: float
    theta_decay: float
    numbers: Tensor | None
    state: ChangedList
    carry: bool
    return_spikes: bool
    return_state: bool

    @property
    def steps(self) -> int:
        """Number of steps of a presentation."""
        return self.x.shape[1]

    def network(self, k: int) -> DiehlCookCall:
        """Return the call of network ``k``, which changes its part of the tensors."""
        return self._replace(**part_of_network(self, k, NUMBERS))

    def state_after(self) -> DiehlCookState:
        """Return the state that the call changes."""
        v, refractory, *traces, last_input, last_spikes = self.state
        rest = (*traces, last_input.unsqueeze(-2), last_spikes)
        return DiehlCookState(v, None, None, refractory, None, None, None, *rest)


def tensors_of(state: DiehlCookState) -> list[Tensor]:
    """Return the tensors of a state as the kernel takes them: last inputs without a dimension for steps."""
    flat = state._replace(last_inputs=state.last_inputs.squeeze(-2))
    return [value for value in flat if value is not None]


def present(call: DiehlCookCall) -> tuple[Tensor, Tensor]:
    """Run P presentations of one network; return spike counts and spikes."""
    P, (neurons, sources) = call.x.shape[0], call.w.shape
    spikes = call.w.new_zeros((P, call.steps, neurons), dtype=torch.bool)
    rest = at_rest(call.w, call.inhibition_delay)
    state = call.state_after() if call.carry else rest
    for p in range(P):
        if not call.carry:
            state = rest
        plastic = state.trace_post != 0
        for t, inputs in enumerate(spikes_of(call.x, p, sources)):
            spikes[p, t], state = step(call, state, inputs)
            plastic |= spikes[p, t]
        if call.learns and call.norm > 0:
            normalize(call.w, plastic, call.norm, call.rule)
    for saved, last in zip(call.state, tensors_of(state)):
        saved.copy_(last)
    return spikes.sum(1, dtype=torch.int32), spikes


def step(call: DiehlCookCall, s: Any, inputs: Tensor) -> tuple[Tensor, DiehlCookState]:
    """Return the spikes ``[N]`` of a step and the next state: dynamics first, then plasticity."""
    delay = call.inhibition_delay
    current = torch.zeros_like(s.v)
    # In this order, so that sums round as in the kernels.
    for i in s.last_inputs[0].nonzero().flatten().tolist():
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
        winner = margin.argmax()  # the first of several maxima
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
        last_inputs=inputs[None],
        last_spikes=torch.cat([s.last_spikes, spikes[None]])[1:] if delay else s.last_spikes,
    )
    return spikes, learn(call, s, inputs, spikes) if call.learns else s


def learn(call: DiehlCookCall, s: DiehlCookState, pre: Tensor, post: Tensor) -> DiehlCookState:
    """Update traces, then weights; second traces have their values before the spikes of the step."""
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
        trace_pre=x_pre, trace_post=x_post, trace_pre2=rule.trace(x_pre2, pre), trace_post2=rule.trace(x_post2, post)
    )


def at_rest(w: Tensor, inhibition_delay: int) -> DiehlCookState:
    """Return the resting state of a network."""
    *networks, n, i = w.shape
    neurons, inputs = w.new_zeros((*networks, n)), w.new_zeros((*networks, i))
    return DiehlCookState(
        v=neurons,
        g_exc=None,
        g_inh=None,
        refractory=neurons.to(torch.int32),
        v_inh=None,
        g_exc_inh=None,
        refractory_inh=None,
        trace_pre=inputs,
        trace_pre2=inputs.clone(),
        trace_post=neurons.clone(),
        trace_post2=neurons.clone(),
        last_inputs=w.new_zeros((*networks, 1, i), dtype=torch.bool),
        last_spikes=w.new_zeros((*networks, inhibition_delay, n), dtype=torch.bool),
    )


def current_call(
    x: Tensor | Events | Rates,
    w: Tensor,
    theta: Tensor,
    *,
    rule: Rule | Sequence[Rule] | None,
    norm: Setting | None,
    state: DiehlCookState | None,
    dt: float,
    refractory: float,
    inhibition_delay: int,
    one_winner: bool,
    return_spikes: bool,
    return_state: bool,
    validate: bool,
    **values: Any,
) -> DiehlCookCall:
    """Check the arguments of :func:`diehl_cook_`; ``values``: settings in which networks may differ."""
    op = OP
    plastic_weights(op, w, theta, rule, validate)
    step = check.positive(op, "dt", dt)

    def membrane_settings(op: str, tau: float, v_threshold: float, v_reset: float, inhibition: float) -> dict[str, Any]:
        return {
            "decay": math.exp(-step / check.positive(op, "tau", tau)),
            "v_threshold": check.number(op, "v_threshold", v_threshold),
            "v_reset": check.number(op, "v_reset", v_reset),
            "inhibition": check.at_least_zero(op, "inhibition", inhibition),
        }

    settings = settings_of_networks(op, w, step, membrane_settings, rule=rule, norm=norm, **values)
    delay = check.integer(op, "inhibition_delay", inhibition_delay, 0)
    initial = own_state(op, state, "current", return_state, w.device, lambda: at_rest(w, delay))
    return DiehlCookCall(
        w=w.detach(),
        theta=theta.detach(),
        x=presentations.presentations(op, x, w.shape[-1], w.device, step, validate, networks_of(w)),
        learns=rule is not None,
        refractory=whole_steps(op, "refractory", refractory, step),
        inhibition_delay=delay,
        one_winner=check.flag(op, "one_winner", one_winner),
        **settings,
        state=[] if initial is None else tensors_of(initial),
        carry=state is not None,
        return_spikes=check.flag(op, "return_spikes", return_spikes),
        return_state=check.flag(op, "return_state", return_state),
    )


CALLS = {"current": current_call, "conductance": conductance_call}
KINDS = {"current": CURRENT, "conductance": CONDUCTANCE}


def _diehl_cook(call: DiehlCookCall | DiehlCookConductanceCall) -> tuple[Tensor, Tensor]:
    """Return spike counts and spikes of P presentations; change weights, thresholds and the state in place."""
    return one_by_one(call, present if isinstance(call, DiehlCookCall) else present_conductance)


def result_of(call: DiehlCookCall | DiehlCookConductanceCall, outputs: tuple[Tensor, Tensor]) -> DiehlCookResult:
    """Return the op's result, made from the counts and spikes of a kernel or the reference."""
    counts, spikes = outputs
    state = call.state_after() if call.return_state else None
    return DiehlCookResult(counts, spikes if call.return_spikes else None, state)


@reference_op(_diehl_cook, result_of)
def diehl_cook_(
    x: Tensor | Events | Rates,
    w: Tensor,
    theta: Tensor,
    *,
    synapses: Literal["current", "conductance"] = "current",
    rule: Rule | Sequence[Rule] | None = None,
    norm: Setting | None = None,
    state: DiehlCookState | None = None,
    dt: float | None = None,
    tau: Setting = 100.0,
    v_threshold: Setting | None = None,
    v_reset: Setting | None = None,
    refractory: float = 5.0,
    theta_plus: Setting = 0.05,
    tau_theta: Setting | None = None,
    inhibition: Setting | None = None,
    inhibition_delay: int | None = None,
    one_winner: bool | None = None,
    delays: Tensor | None = None,
    longest_delay: int | None = None,
    rest: float | None = None,
    v_rest: Setting | None = None,
    tau_inh: Setting | None = None,
    v_rest_inh: Setting | None = None,
    v_reset_inh: Setting | None = None,
    v_threshold_inh: Setting | None = None,
    refractory_inh: float | None = None,
    tau_g_exc: Setting | None = None,
    tau_g_inh: Setting | None = None,
    e_exc: Setting | None = None,
    e_inh: Setting | None = None,
    w_exc_inh: Setting | None = None,
    w_inh_exc: Setting | None = None,
    return_spikes: bool = False,
    return_state: bool = False,
    validate: bool = True,
) -> DiehlCookCall | DiehlCookConductanceCall:
    """Present P stimuli, one after the other, to N competing neurons that adapt and learn.

    The network of Diehl and Cook, Front. Comput. Neurosci. 9:99 (2015), with current-based synapses as in n3ml, or with
    the paper's conductances. ``w`` and ``theta`` are **changed in place**; nothing is changed when an error is raised.
    There is no gradient. A presentation starts at rest unless ``state`` is given; then nothing is reset, and a sequence
    in two parts gives the result of the whole. Traces and weights change as in :mod:`snnfast.plasticity`.

    ``synapses="current"``: potentials are in mV above rest. With ``d = exp(-dt / tau)``, input spikes ``s_in`` and D =
    ``inhibition_delay``, a step of neuron j is::

        I_j[t] = sum_i w[j, i] s_in[i, t-1] - inhibition sum_{k != j} s[k, t-D]         (D > 0)
        v_j[t] = v_j[t-1] d + (I_j[t] if not refractory)
        theta_j[t] = theta_j[t-1] exp(-dt / tau_theta)
        s[j, t] = 1 if v_j[t] >= v_threshold + theta_j[t]                              (candidates)
        s[j, t] = 0 but for the candidate furthest above its threshold                 (one_winner; the first of equals)
        v_j[t] = v_reset, refractory for ceil(refractory / dt) steps from t+1, where s[j, t]
        theta_j[t] += theta_plus s[j, t]
        v_j[t] -= inhibition sum_k s[k, t], where neither spiking nor refractory       (D = 0)

    Then the rule sees the spikes ``s_in[t]`` and ``s[t]``. Inhibition is direct: in the paper an excitatory spike makes
    its inhibitory partner fire, which inhibits all others; with the constants of n3ml this equals the formula above
    with D = 2. After each presentation the weights to neurons that learned in it (that spiked, or started it with a
    trace) are scaled to the sum ``norm``.

    On the CPU the work grows with the spikes: as long as a bound shows that no neuron of a group of 64 can reach its
    threshold, the steps of the group are postponed. Spikes, weights and thresholds are those of the step-by-step
    evaluation, bit for bit. Without learning (``rule=None, theta_plus=0``) and ``state`` presentations run in parallel.
    On CUDA all presentations are one launch.

    ``synapses="conductance"``: sections 2.1 to 2.3 of the paper, with the constants of the authors' program. Excitatory
    neuron j, with conductances in units of its leak::

        tau dv/dt = (v_rest - v) + g_exc (e_exc - v) + g_inh (e_inh - v)
        tau_g_exc dg_exc/dt = -g_exc        tau_g_inh dg_inh/dt = -g_inh        tau_theta dtheta/dt = -theta
        input i spiked a delay ago:             g_exc += w[j, i]
        inhibitory neuron k != j spikes:        g_inh += w_inh_exc
        v >= v_threshold + theta:               spike; v = v_reset, fixed for the refractory time; theta += theta_plus

    Its inhibitory partner has its own constants, ``g_exc += w_exc_inh`` when neuron j spikes, and no inhibition. In
    a step, with ``m = tau_g (1 - exp(-dt / tau_g)) / dt`` the mean of a conductance over the step::

        G = 1 + m_exc g_exc + m_inh g_inh       target = (v_rest + m_exc g_exc e_exc + m_inh g_inh e_inh) / G
        v <- target + (v - target) exp(-dt G / tau),    unless refractory
        g <- g exp(-dt / tau_g),    theta <- theta exp(-dt / tau_theta)
        spikes of both populations;    arrivals, which act from the next step on;    resets;    plasticity

    so that a spike carries the same charge for every ``dt``, and inhibition of any strength cannot move the membrane
    beyond ``e_inh``. A synapse uses the spikes and traces of its input from one delay ago, and its weight first drives
    the neuron, then learns. A presentation is the stimulus and then ``rest`` without input. Before each presentation
    the weights to every neuron are scaled to the sum ``norm``. Only the CPU has kernels for conductances.

    Weights ``[K, N, I]`` are K independent networks at once; each equals a single network bit for bit. All tensors
    then have K as first dimension, except that ``x``, its rates or its seeds do not need it if all networks get the
    same. ``rule`` and every number except the times in whole steps (``dt``, ``rest``, refractory times,
    ``inhibition_delay``) may be sequences with one value for each network; rules must then have the same kind and
    trace. On the CPU each thread takes a network; on CUDA all networks are one launch.

    Arguments of the other kind of synapses must be None; where the default is None, the number is that of the kind.

    Args:
        x: the stimuli: spikes ``[P, T, I]`` (bool, uint8, float32 or float64; anything but 0 is a spike),
            :class:`Events`, or :class:`Rates` (Poisson spikes drawn in the kernel).
        w: weights ``[N, I]`` or ``[K, N, I]``, float32 or float64, within the bounds of ``rule``; conductances are at
            least 0. Fastest if ``w.mT`` is contiguous.
        theta: adaptive part of the thresholds ``[N]``, mV; shares no memory with ``w``. It has the dtype of ``w``; with
            conductances float64, since its decay of 5e-8 a step is below the resolution of float32 (the authors start
            at 20).
        synapses: ``"current"`` or ``"conductance"``.
        rule: plasticity rule of ``w``, from :mod:`snnfast.plasticity` (the authors': ``triplet()``); None: no learning.
        norm: sum to which the weights are normalised (the authors': 78); needs ``rule``, and weights stay within its
            bounds; None: no normalisation.
        state: the state to start from, as returned; None: rest.
        dt: length of a step, ms; None: 1, conductance 0.5.
        tau: membrane time constant of the (excitatory) neurons, ms.
        v_threshold: their threshold without ``theta``, mV; None: 13 above rest, conductance -72: -52, minus the initial
            theta of 20.
        v_reset: their membrane after a spike, mV; None: 5 above rest, conductance -65.
        refractory: their refractory time, ms, counted from the step after the spike.
        theta_plus: growth of a neuron's threshold per spike, mV.
        tau_theta: time constant of the decay of the threshold, ms (the authors': 1e7); None: no decay.
        inhibition: current: effect of a spike on all other neurons, mV; None: 120.
        inhibition_delay: current: steps from a spike to its inhibition; None: 2.
        one_winner: current: let at most one neuron spike in a step; None: no.
        delays: conductance: steps from an input's spike to its arrival at each neuron, uint8 ``[N, I]`` (the authors':
            uniform in 0 to 10 ms, ``torch.randint(0, 21, w.shape, dtype=torch.uint8)``); None: 0.
        longest_delay: conductance: upper bound of the delays in steps, at most 255; None: the largest of ``delays``,
            which on CUDA waits for the device, or 255 if values cannot be read (torch.compile, CUDA graphs). The shapes
            of ``state`` depend on it.
        rest: conductance: time without input after each stimulus, ms; None: 150.
        v_rest: conductance: resting potential, mV; None: -65.
        tau_inh: conductance: membrane time constant of the inhibitory neurons, ms; None: 10.
        v_rest_inh: conductance: their resting potential, mV; None: -60.
        v_reset_inh: conductance: their membrane after a spike, mV; None: -45.
        v_threshold_inh: conductance: their threshold, mV; None: -40.
        refractory_inh: conductance: their refractory time, ms; None: 2.
        tau_g_exc: conductance: time constant of the excitatory conductances, ms; None: 1.
        tau_g_inh: conductance: time constant of the inhibitory conductance, ms; None: 2.
        e_exc: conductance: reversal potential of the excitatory conductances, mV; None: 0.
        e_inh: conductance: reversal potential of the inhibitory conductance, mV; None: -100.
        w_exc_inh: conductance: weight from an excitatory neuron to its inhibitory partner; None: 10.4.
        w_inh_exc: conductance: weight from an inhibitory neuron to all excitatory neurons but its partner; None: 17.
        return_spikes: return the raster.
        return_state: return the state after the last step; without it the CPU skips work on which no spike depends.
        validate: check the values of ``x``, ``w``, ``theta`` and ``delays``; on CUDA this waits for the device.

    Returns:
        :class:`DiehlCookResult`: ``counts`` int32 ``[P, N]``; ``spikes`` bool ``[P, T + R, N]`` (R steps of rest with
        conductances) and ``state``, or None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range, and of the other synapses.
    """
    check.choice(OP, "synapses", synapses, tuple(KINDS))
    check.flag(OP, "validate", validate)
    passed = {
        "dt": dt,
        "v_threshold": v_threshold,
        "v_reset": v_reset,
        "inhibition": inhibition,
        "inhibition_delay": inhibition_delay,
        "one_winner": one_winner,
        "delays": delays,
        "longest_delay": longest_delay,
        "rest": rest,
        "v_rest": v_rest,
        "tau_inh": tau_inh,
        "v_rest_inh": v_rest_inh,
        "v_reset_inh": v_reset_inh,
        "v_threshold_inh": v_threshold_inh,
        "refractory_inh": refractory_inh,
        "tau_g_exc": tau_g_exc,
        "tau_g_inh": tau_g_inh,
        "e_exc": e_exc,
        "e_inh": e_inh,
        "w_exc_inh": w_exc_inh,
        "w_inh_exc": w_inh_exc,
    }
    return CALLS[synapses](  # type: ignore[operator, no-any-return]
        x,
        w,
        theta,
        rule=rule,
        norm=norm,
        state=state,
        tau=tau,
        refractory=refractory,
        theta_plus=theta_plus,
        tau_theta=tau_theta,
        return_spikes=return_spikes,
        return_state=return_state,
        validate=validate,
        **settings_of(synapses, passed),
    )


def settings_of(synapses: str, passed: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a kind of synapses, ``passed`` or by default; refuse those of the other kind."""
    settings = dict(KINDS[synapses])
    for name, value in passed.items():
        if value is None:
            continue
        if name not in settings:
            (other,) = KINDS.keys() - {synapses}
            found = "a tensor" if isinstance(value, Tensor) else check.shown(value)
            raise ValueError(
                f"{OP}: {name} must be None with synapses={synapses!r}, got {found}; leave it out, or pass "
                f"synapses={other!r}, which has it"
            )
        settings[name] = value
    return settings
