"""The network of Diehl and Cook with current-based synapses: Front. Comput. Neurosci. 9:99 (2015)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.plasticity import Constants, Rule

from . import presentations
from .call import Changed, ChangedList, reference_op
from .networks import networks_of, numbers, one_by_one, with_numbers
from .presentations import Events, Presentations, Rates, spikes_of
from .stdp import normalize

Setting = float | Sequence[float]  # one for all networks, or one per network


# Settings in which networks may differ, in the order of the kernel.
NUMBERS = (*("rule", "norm", "decay", "v_threshold", "v_reset", "inhibition"), *("theta_plus", "theta_decay"))


class DiehlCookState(NamedTuple):
    """State of the network between two steps, besides weights and thresholds.

    For K networks at once each tensor is ``[K, ...]``.

    Attributes:
        v: membrane above rest ``[N]``, mV.
        refractory: remaining refractory steps of each neuron, int32 ``[N]``.
        trace_pre, trace_pre2: traces of the inputs ``[I]``.
        trace_post, trace_post2: traces of the neurons ``[N]``.
        last_input: spikes of the inputs in the last step, which neurons receive in the next, bool ``[I]``.
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
    """Result of P presentations.

    For K networks at once each tensor is ``[K, ...]``.

    Attributes:
        counts: spikes of every neuron in every presentation, int32 ``[P, N]``.
        spikes: spikes of every step, bool ``[P, T, N]``; None without ``return_spikes``.
        state: state after the last step; None without ``return_state``.
    """

    counts: Tensor
    spikes: Tensor | None
    state: DiehlCookState | None


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

    def result_of(self, outputs: tuple[Tensor, Tensor]) -> DiehlCookResult:
        """Return the op's result, made from the counts and spikes of a kernel or the reference."""
        counts, spikes = outputs
        state = DiehlCookState(*self.state) if self.return_state else None
        return DiehlCookResult(counts, spikes if self.return_spikes else None, state)


NOTHING = Rule("additive")  # constants for kernels if there is no rule


def _diehl_cook(call: DiehlCookCall) -> tuple[Tensor, Tensor]:
    """Return spike counts and spikes of P presentations; change weights, thresholds and the state in place."""
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
    for saved, last in zip(call.state, state):
        saved.copy_(last)
    return spikes.sum(1, dtype=torch.int32), spikes


def step(call: DiehlCookCall, s: DiehlCookState, inputs: Tensor) -> tuple[Tensor, DiehlCookState]:
    """Return the spikes ``[N]`` of a step and the next state: dynamics first, then plasticity."""
    delay = call.inhibition_delay
    current = torch.zeros_like(s.v)
    # In this order, so that sums round as in the kernels.
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
        last_input=inputs,
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


@reference_op(_diehl_cook, DiehlCookCall.result_of)
def diehl_cook_(
    x: Tensor | Events | Rates,
    w: Tensor,
    theta: Tensor,
    *,
    rule: Rule | Sequence[Rule] | None = None,
    norm: Setting | None = None,
    state: DiehlCookState | None = None,
    dt: float = 1.0,
    tau: Setting = 100.0,
    v_threshold: Setting = 13.0,
    v_reset: Setting = 5.0,
    refractory: float = 5.0,
    inhibition: Setting = 120.0,
    inhibition_delay: int = 2,
    one_winner: bool = False,
    theta_plus: Setting = 0.05,
    tau_theta: Setting | None = None,
    return_spikes: bool = False,
    return_state: bool = False,
    validate: bool = True,
) -> DiehlCookCall:
    """Present P stimuli, one after the other, to N competing neurons that adapt and learn.

    Diehl and Cook, Front. Comput. Neurosci. 9:99 (2015) with current-based synapses as in n3ml. Potentials are in mV
    above rest. With ``d = exp(-dt / tau)``, input spikes ``s_in`` and D = ``inhibition_delay``, a step of neuron j is::

        I_j[t] = sum_i w[j, i] s_in[i, t-1] - inhibition sum_{k != j} s[k, t-D]         (D > 0)
        v_j[t] = v_j[t-1] d + (I_j[t] if not refractory)
        theta_j[t] = theta_j[t-1] exp(-dt / tau_theta)
        s[j, t] = 1 if v_j[t] >= v_threshold + theta_j[t]                              (candidates)
        s[j, t] = 0 but for the candidate furthest above its threshold                 (one_winner; the first of equals)
        v_j[t] = v_reset, refractory for ceil(refractory / dt) steps from t+1, where s[j, t]
        theta_j[t] += theta_plus s[j, t]
        v_j[t] -= inhibition sum_k s[k, t], where neither spiking nor refractory       (D = 0)

    Then traces and weights change as in :mod:`snnfast.plasticity`, with the spikes ``s_in[t]`` and ``s[t]``. Inhibition
    is direct: in the paper an excitatory spike makes its inhibitory partner fire, which inhibits all others; with the
    constants of n3ml this equals the formula above with D = 2.

    After each presentation the weights to neurons that learned in it (that spiked, or started it with a trace) are
    scaled to the sum ``norm``. A presentation starts at rest unless ``state`` is given; then nothing is reset, and a
    sequence in two parts gives the result of the whole. ``w`` and ``theta`` are **changed in place**; nothing is
    changed when an error is raised. There is no gradient.

    On the CPU the work grows with the spikes: as long as a bound shows that no neuron of a group of 64 can reach its
    threshold, the steps of the group are postponed. Spikes, weights and thresholds are those of the step-by-step
    evaluation, bit for bit. Without learning (``rule=None, theta_plus=0, tau_theta=None``) and ``state`` presentations
    run in parallel. On CUDA all presentations are one launch.

    Weights ``[K, N, I]`` are K independent networks at once; each equals a single network bit for bit. All tensors
    then have K as first dimension, except that ``x``, its rates or its seeds do not need it if all networks get the
    same. ``rule``, ``norm``, ``tau``, ``v_threshold``, ``v_reset``, ``inhibition``, ``theta_plus`` and ``tau_theta``
    may be sequences with one value for each network; rules must then have the same kind and trace. On the CPU each
    thread takes a network; on CUDA all networks are one launch.

    Args:
        x: the stimuli: spikes ``[P, T, I]`` (bool, uint8, float32 or float64; anything but 0 is a spike),
            :class:`Events`, or :class:`Rates` (Poisson spikes drawn in the kernel).
        w: weights ``[N, I]`` or ``[K, N, I]``, float32 or float64, within the bounds of ``rule``. Fastest if ``w.mT``
            is contiguous.
        theta: adaptive part of the thresholds ``[N]``, mV, of the dtype of ``w``; shares no memory with it.
        rule: plasticity rule of ``w``, from :mod:`snnfast.plasticity`; None: no learning.
        norm: sum to which the weights are normalised after a presentation; needs ``rule``, and weights stay within its
            bounds; None: no normalisation.
        state: the state to start from, as returned; None: rest.
        dt: length of a step, ms.
        tau: membrane time constant, ms.
        v_threshold: threshold above rest, mV.
        v_reset: membrane after a spike, above rest, mV.
        refractory: time without input after a spike, ms.
        inhibition: effect of a spike on all other neurons, mV.
        inhibition_delay: steps from a spike to its inhibition.
        one_winner: let at most one neuron spike in a step.
        theta_plus: growth of a neuron's threshold per spike, mV.
        tau_theta: time constant of the decay of the threshold, ms; None: no decay.
        return_spikes: return the raster.
        return_state: return the state after the last step; without it the CPU skips work on which no spike depends.
        validate: check the values of ``x``, ``w`` and ``theta``; on CUDA this waits for the device.

    Returns:
        :class:`DiehlCookResult`: ``counts`` int32 ``[P, N]``; ``spikes`` bool ``[P, T, N]`` and ``state``, or None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    op = "diehl_cook_"
    check.flag(op, "validate", validate)
    plastic_weights(op, w, theta, rule, validate)
    step = check.positive(op, "dt", dt)

    def membrane_settings(op: str, tau: float, v_threshold: float, v_reset: float, inhibition: float) -> dict[str, Any]:
        return {
            "decay": math.exp(-step / check.positive(op, "tau", tau)),
            "v_threshold": check.number(op, "v_threshold", v_threshold),
            "v_reset": check.number(op, "v_reset", v_reset),
            "inhibition": check.at_least_zero(op, "inhibition", inhibition),
        }

    settings = settings_of_networks(
        op,
        w,
        step,
        membrane_settings,
        rule=rule,
        norm=norm,
        tau=tau,
        v_threshold=v_threshold,
        v_reset=v_reset,
        inhibition=inhibition,
        theta_plus=theta_plus,
        tau_theta=tau_theta,
    )
    delay = check.whole(op, "inhibition_delay", inhibition_delay, 0)
    return DiehlCookCall(
        w=w.detach(),
        theta=theta.detach(),
        x=presentations.presentations(op, x, w.shape[-1], w.device, step, validate, networks_of(w)),
        learns=rule is not None,
        refractory=whole_steps(op, "refractory", refractory, step),
        inhibition_delay=delay,
        one_winner=check.flag(op, "one_winner", one_winner),
        **settings,
        state=own_state(op, state, DiehlCookState, return_state, w.device, lambda: at_rest(w, delay)),
        carry=state is not None,
        return_spikes=check.flag(op, "return_spikes", return_spikes),
        return_state=check.flag(op, "return_state", return_state),
    )


def at_rest(w: Tensor, inhibition_delay: int) -> DiehlCookState:
    """Return the resting state of a network."""
    *networks, n, i = w.shape
    neurons, inputs = w.new_zeros((*networks, n)), w.new_zeros((*networks, i))
    return DiehlCookState(
        neurons,
        neurons.to(torch.int32),
        inputs,
        inputs.clone(),
        neurons.clone(),
        neurons.clone(),
        inputs.bool(),
        w.new_zeros((*networks, inhibition_delay, n), dtype=torch.bool),
    )


def settings_of_networks(
    op: str, w: Tensor, step: float, specific: Callable[..., dict[str, Any]], **values: Any
) -> dict[str, Any]:
    """Return the fields ``NUMBERS`` of a call, and ``numbers`` if networks differ; ``specific``: settings of one op."""

    def settings(
        op: str, rule: Rule | None, norm: float | None, theta_plus: float, tau_theta: float | None, **others: float
    ) -> dict[str, Any]:
        """Return the settings of one network, in the order of the call."""
        if norm is not None and rule is None:
            raise ValueError(f"{op}: norm must be None without a rule, got {norm}")
        fade = 0.0 if tau_theta is None else step / check.positive(op, "tau_theta", tau_theta)
        return {
            "rule": (rule or NOTHING).constants(step),
            "norm": 0.0 if norm is None else check.positive(op, "norm", norm),
            **specific(op, **others),
            "theta_plus": check.at_least_zero(op, "theta_plus", theta_plus),
            "theta_decay": math.exp(-fade),
        }

    networks = networks_of(w)
    if networks is None:  # first: the search for sequences costs a small call 3 us
        return {**settings(op, **values), "numbers": None}
    several = {n for n, v in values.items() if isinstance(v, Sequence) and not isinstance(v, str)}
    if not several:
        return {**settings(op, **values), "numbers": None}
    for name in several:
        if len(values[name]) != networks or not networks:
            raise ValueError(f"{op}: {name} must be one for all or {networks}, one a network, got {len(values[name])}")
    every = [
        settings(f"{op}: network {k}", **{name: v[k] if name in several else v for name, v in values.items()})
        for k in range(networks)
    ]
    rows = [[n for part in network.values() for n in numbers(part)] for network in every]
    return {
        **every[0],
        "theta_plus": max(network["theta_plus"] for network in every),
        "theta_decay": min(network["theta_decay"] for network in every),
        "numbers": torch.tensor(rows, dtype=torch.float64).to(w.device),
    }


def plastic_weights(
    op: str,
    w: Tensor,
    theta: Tensor,
    rule: Rule | Sequence[Rule] | None,
    validate: bool,
    theta_dtype: torch.dtype | None = None,
) -> None:
    """Check that ``w`` [N, I] or [K, N, I] fits ``theta``, and lies within the bounds of ``rule``."""
    check.weights(op, "w", w, "NI", "KNI")
    check.shape(op, "theta", theta, w.shape[:-1])
    if theta_dtype is None:
        check.beside(op, "theta", theta, "w", w)
    else:
        check.fits(op, "theta", theta, w.shape[:-1], theta_dtype, w.device)
    check.separate(op, "theta", theta)
    if theta.dtype == w.dtype and check.overlap(theta, w):
        raise ValueError(f"{op}: theta and w must not share memory: each changes by itself")
    rules = rules_of(op, w, rule)
    for item in rules:
        if item.tau_eligibility is not None:
            raise ValueError(f"{op}: rule must not wait for a reward; use snnfast.ops.stdp_ for that")
    if not validate:
        return
    for k, item in enumerate(rules):
        check.in_range(op, "w", w.detach()[k] if len(rules) > 1 else w.detach(), item.w_min, item.w_max)
    if not rules:
        check.finite(op, "w", w)
    check.finite(op, "theta", theta)


def rules_of(op: str, w: Tensor, rule: object) -> Sequence[Rule]:
    """Return no rule, one, or one for each network of ``w``; check that these differ only in numbers."""
    if rule is None:
        return ()
    several = w.dim() == 3 and isinstance(rule, Sequence) and not isinstance(rule, str)
    rules = rule if several else (rule,)
    for item in rules:  # type: ignore[attr-defined]
        if not isinstance(item, Rule):
            raise TypeError(f"{op}: rule must be a rule of snnfast.plasticity or None, got {type(item).__name__}")
        if (item.kind, item.trace) != (rules[0].kind, rules[0].trace):  # type: ignore[index]
            raise ValueError(
                f"{op}: rules of networks must be of one kind and trace, "
                f"got {rules[0].kind}, {rules[0].trace} and {item.kind}, {item.trace}"  # type: ignore[index]
            )
    return rules  # type: ignore[return-value]


def part_of_network(call: Any, k: int, names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of network ``k`` in a call of K networks; ``names``: the fields that ``numbers`` holds."""
    settings = {} if call.numbers is None else {name: getattr(call, name) for name in names}
    new_numbers = iter(call.numbers[k].tolist() if settings else ())
    return {
        **{name: with_numbers(value, new_numbers) for name, value in settings.items()},
        "numbers": None,
        "w": call.w[k],
        "theta": call.theta[k],
        "x": call.x.network(k),
        "state": [value[k] for value in call.state],
    }


def whole_steps(op: str, name: str, time: object, dt: float) -> int:
    """Return a time in ms as a number of steps, rounded up."""
    steps = check.at_least_zero(op, name, time) / dt
    if not steps < 2**31:
        raise ValueError(f"{op}: {name} must be less than 2**31 steps of {dt:g} ms, got {time}")
    return math.ceil(steps - 1e-9)


def own_state(
    op: str, state: object, kind: type, asked: object, device: torch.device, at_rest: Callable[[], Any]
) -> list[Tensor]:
    """Return state tensors that the call may change: a copy of ``state``, or the resting state if it is returned."""
    if state is None:
        return list(at_rest()) if asked else []
    if not isinstance(state, kind):
        raise TypeError(f"{op}: state must be a {kind.__name__} or None, got {type(state).__name__}")
    expected = at_rest()
    for name, value, like in zip(expected._fields, state, expected):  # type: ignore[call-overload]
        check.fits(op, f"state.{name}", value, like.shape, like.dtype, device)
    return [value.detach().clone(memory_format=torch.contiguous_format) for value in state]  # type: ignore[attr-defined]
