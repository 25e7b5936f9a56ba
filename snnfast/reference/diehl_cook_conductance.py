"""The network of Diehl and Cook with the paper's conductances: Front. Comput. Neurosci. 9:99 (2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.plasticity import Constants, Rule

from . import presentations
from .call import Changed, ChangedList, reference_op
from .diehl_cook import (
    Setting,
    own_state,
    part_of_network,
    plastic_weights,
    rules_of,
    settings_of_networks,
    whole_steps,
)
from .exp import exp_nonpositive
from .networks import networks_of, one_by_one
from .presentations import Events, Presentations, Rates, spikes_of
from .stdp import normalize

# Settings in which networks may differ, in the order of the kernel.
NUMBERS = ("rule", "norm", "exc", "inh", "g", "theta_plus", "theta_decay")


class DiehlCookConductanceState(NamedTuple):
    """State of the network between two steps, besides weights and thresholds.

    D is the longest delay in steps; 0 without delays. For K networks at once each tensor is ``[K, ...]``.

    Attributes:
        v: membrane of the excitatory neurons ``[N]``, mV.
        g_exc, g_inh: their excitatory and inhibitory conductance ``[N]``, in units of the leak.
        refractory: their remaining refractory steps, int32 ``[N]``.
        v_inh, g_exc_inh, refractory_inh: the same for the inhibitory neurons, which are not inhibited.
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
    """Result of P presentations of T steps and R steps of rest.

    For K networks at once each tensor is ``[K, ...]``.

    Attributes:
        counts: spikes of every excitatory neuron in every presentation, rest included, int32 ``[P, N]``.
        spikes: spikes of every step, bool ``[P, T + R, N]``; None without ``return_spikes``.
        state: state after the last step; None without ``return_state``.
    """

    counts: Tensor
    spikes: Tensor | None
    state: DiehlCookConductanceState | None


class Population(NamedTuple):
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
    """See :func:`diehl_cook_conductance_`; time in steps.

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
    exc: Population
    inh: Population
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

    def result_of(self, outputs: tuple[Tensor, Tensor]) -> DiehlCookConductanceResult:
        """Return the op's result, made from the counts and spikes of a kernel or the reference."""
        counts, spikes = outputs
        state = DiehlCookConductanceState(*self.state) if self.return_state else None
        return DiehlCookConductanceResult(counts, spikes if self.return_spikes else None, state)


LONGEST_DELAY = 255  # largest uint8


def _diehl_cook_conductance(call: DiehlCookConductanceCall) -> tuple[Tensor, Tensor]:
    """Return spike counts and spikes of P presentations; change weights, thresholds and the state in place."""
    return one_by_one(call, present)


def present(call: DiehlCookConductanceCall) -> tuple[Tensor, Tensor]:
    """Run P presentations of one network; return spike counts and spikes."""
    P, (neurons, sources) = call.x.shape[0], call.w.shape
    every = torch.ones(neurons, dtype=torch.bool, device=call.w.device)
    spikes = call.w.new_zeros((P, call.steps, neurons), dtype=torch.bool)
    delays = torch.zeros_like(call.w, dtype=torch.uint8) if call.delays is None else call.delays
    delays = delays.to(torch.int64).clamp(max=call.longest_delay)
    rest = at_rest(call.w, call.longest_delay, call.exc.v_rest, call.inh.v_rest)
    state = DiehlCookConductanceState(*call.state) if call.carry else rest
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
        saved.copy_(last)
    return spikes.sum(1, dtype=torch.int32), spikes


def step(
    call: DiehlCookConductanceCall, s: DiehlCookConductanceState, inputs: Tensor, delays: Tensor
) -> tuple[Tensor, DiehlCookConductanceState]:
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
    call: DiehlCookConductanceCall,
    s: DiehlCookConductanceState,
    inputs: Tensor,
    arrived: Tensor,
    post: Tensor,
    delays: Tensor,
) -> DiehlCookConductanceState:
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
    a: Population,
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


def refractory_steps(a: Population, before: Tensor, spikes: Tensor) -> Tensor:
    """Return the remaining refractory steps."""
    return torch.where(spikes, a.refractory, (before - 1).clamp(min=0)).to(torch.int32)


@reference_op(_diehl_cook_conductance, DiehlCookConductanceCall.result_of)
def diehl_cook_conductance_(
    x: Tensor | Events | Rates,
    w: Tensor,
    theta: Tensor,
    *,
    rule: Rule | Sequence[Rule] | None = None,
    norm: Setting | None = None,
    state: DiehlCookConductanceState | None = None,
    delays: Tensor | None = None,
    longest_delay: int | None = None,
    dt: float = 0.5,
    rest: float = 150.0,
    tau: Setting = 100.0,
    v_rest: Setting = -65.0,
    v_reset: Setting = -65.0,
    v_threshold: Setting = -72.0,
    refractory: float = 5.0,
    tau_inh: Setting = 10.0,
    v_rest_inh: Setting = -60.0,
    v_reset_inh: Setting = -45.0,
    v_threshold_inh: Setting = -40.0,
    refractory_inh: float = 2.0,
    tau_g_exc: Setting = 1.0,
    tau_g_inh: Setting = 2.0,
    e_exc: Setting = 0.0,
    e_inh: Setting = -100.0,
    w_exc_inh: Setting = 10.4,
    w_inh_exc: Setting = 17.0,
    theta_plus: Setting = 0.05,
    tau_theta: Setting | None = 1e7,
    return_spikes: bool = False,
    return_state: bool = False,
    validate: bool = True,
) -> DiehlCookConductanceCall:
    """Present P stimuli, one after the other, to N excitatory and N inhibitory neurons with conductances.

    Diehl and Cook, Front. Comput. Neurosci. 9:99 (2015), sections 2.1 to 2.3, with the constants of the authors'
    program. Excitatory neuron j, with conductances in units of its leak::

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
    beyond ``e_inh``. Traces and weights change as in :mod:`snnfast.plasticity`; a synapse uses the spikes and traces of
    its input from one delay ago, and its weight first drives the neuron, then learns.

    A presentation is the stimulus and then ``rest`` without input. It starts at rest unless ``state`` is given; then
    nothing is reset, and a sequence in two parts gives the result of the whole. Before each presentation the weights to
    every neuron are scaled to the sum ``norm``. ``w`` and ``theta`` are **changed in place**; nothing is changed when
    an error is raised. There is no gradient.

    Weights ``[K, N, I]`` are K networks at once, as in :func:`diehl_cook_`. ``rule`` and every number except the times
    in whole steps (``dt``, ``rest``, refractory times) may be a sequence with one value for each network.

    Args:
        x: the stimuli: spikes ``[P, T, I]`` (bool, uint8, float32 or float64; anything but 0 is a spike),
            :class:`Events`, or :class:`Rates` (Poisson spikes drawn in the kernel).
        w: weights ``[N, I]`` or ``[K, N, I]``, float32 or float64, at least 0 and within the bounds of ``rule``.
            Fastest if ``w.mT`` is contiguous.
        theta: adaptive part of the thresholds ``[N]``, mV, float64: its decay of 5e-8 a step is below the resolution of
            float32. Shares no memory with ``w``. The authors start at 20.
        rule: plasticity rule of ``w``, from :mod:`snnfast.plasticity` (the authors': ``triplet()``); None: no learning.
        norm: sum to which the weights are normalised before a presentation (the authors': 78); needs ``rule``, and
            weights stay within its bounds; None: no normalisation.
        state: the state to start from, as returned; None: rest.
        delays: steps from an input's spike to its arrival at each neuron, uint8 ``[N, I]`` (the authors': uniform in 0
            to 10 ms, ``torch.randint(0, 21, w.shape, dtype=torch.uint8)``); None: 0.
        longest_delay: upper bound of the delays in steps, at most 255; None: the largest of ``delays``, which on CUDA
            waits for the device, or 255 if values cannot be read (torch.compile, CUDA graphs). The shapes of
            ``state`` depend on it.
        dt: length of a step, ms.
        rest: time without input after each stimulus, ms.
        tau: membrane time constant of the excitatory neurons, ms.
        v_rest: their resting potential, mV.
        v_reset: their membrane after a spike, mV.
        v_threshold: their threshold without ``theta``, mV: -52, minus the initial theta of 20.
        refractory: their refractory time, ms, counted from the step after the spike.
        tau_inh: membrane time constant of the inhibitory neurons, ms.
        v_rest_inh: their resting potential, mV.
        v_reset_inh: their membrane after a spike, mV.
        v_threshold_inh: their threshold, mV.
        refractory_inh: their refractory time, ms.
        tau_g_exc: time constant of the excitatory conductances, ms.
        tau_g_inh: time constant of the inhibitory conductance, ms.
        e_exc: reversal potential of the excitatory conductances, mV.
        e_inh: reversal potential of the inhibitory conductance, mV.
        w_exc_inh: weight from an excitatory neuron to its inhibitory partner.
        w_inh_exc: weight from an inhibitory neuron to all excitatory neurons but its partner.
        theta_plus: growth of a neuron's threshold per spike, mV.
        tau_theta: time constant of the decay of the threshold, ms; None: no decay.
        return_spikes: return the raster.
        return_state: return the state after the last step.
        validate: check the values of ``x``, ``w``, ``theta`` and ``delays``; on CUDA this waits for the device.

    Returns:
        :class:`DiehlCookConductanceResult`: ``counts`` int32 ``[P, N]``; ``spikes`` bool ``[P, T + R, N]`` (R steps of
        rest) and ``state``, or None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    op = "diehl_cook_conductance_"
    check.flag(op, "validate", validate)
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

        def population(suffix: str, refractory: int) -> Population:
            return Population(
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
    settings = settings_of_networks(
        op,
        w,
        step,
        neuron_settings,
        rule=rule,
        norm=norm,
        tau=tau,
        v_rest=v_rest,
        v_reset=v_reset,
        v_threshold=v_threshold,
        tau_inh=tau_inh,
        v_rest_inh=v_rest_inh,
        v_reset_inh=v_reset_inh,
        v_threshold_inh=v_threshold_inh,
        tau_g_exc=tau_g_exc,
        tau_g_inh=tau_g_inh,
        e_exc=e_exc,
        e_inh=e_inh,
        w_exc_inh=w_exc_inh,
        w_inh_exc=w_inh_exc,
        theta_plus=theta_plus,
        tau_theta=tau_theta,
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
        state=own_state(
            op,
            state,
            DiehlCookConductanceState,
            return_state,
            w.device,
            lambda: at_rest(w, longest, v_rest, v_rest_inh),
        ),
        carry=state is not None,
        return_spikes=check.flag(op, "return_spikes", return_spikes),
        return_state=check.flag(op, "return_state", return_state),
    )


def at_rest(w: Tensor, longest_delay: int, v_rest: Setting, v_rest_inh: Setting) -> DiehlCookConductanceState:
    """Return the resting state of a network."""

    def resting(v: Setting) -> Tensor:
        if not isinstance(v, Sequence):
            return torch.full_like(zeros, v)
        return torch.tensor(v, dtype=w.dtype).to(w.device)[:, None].expand_as(zeros).clone()

    *networks, n, i = w.shape
    zeros = w.new_zeros((*networks, n))
    steps = zeros.to(torch.int32)
    history = w.new_zeros((*networks, longest_delay + 1, i))
    return DiehlCookConductanceState(
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
    )


def _longest(op: str, delays: Tensor | None, limit: int | None, w: Tensor, validate: bool) -> int:
    """Return the upper bound of the delays; with ``validate``, check that they do not exceed a given ``limit``."""
    if delays is None:
        if limit is not None:
            raise ValueError(f"{op}: longest_delay must be None without delays, got {limit}")
        return 0
    check.fits(op, "delays", delays, w.shape, torch.uint8, w.device)
    if limit is not None and check.whole(op, "longest_delay", limit, 0) > LONGEST_DELAY:
        raise ValueError(f"{op}: longest_delay must be at most {LONGEST_DELAY} steps, got {limit}")
    if not check.looks(validate or limit is None, w.device):
        return LONGEST_DELAY if limit is None else limit
    longest = int(delays.max()) if delays.numel() else 0
    if limit is not None and longest > limit:
        raise ValueError(f"{op}: delays must be at most longest_delay, {limit} steps, got {longest}")
    return longest if limit is None else limit
