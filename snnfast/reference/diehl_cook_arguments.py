"""State and result of the networks of Diehl and Cook, and the checks of arguments that both kinds of synapses share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.plasticity import Rule

from .networks import networks_of, numbers, with_numbers

Setting = float | Sequence[float]  # one for all networks, or one per network
OP = "diehl_cook_"


class DiehlCookState(NamedTuple):
    """State of the network between two steps, besides weights and thresholds.

    For K networks at once each tensor is ``[K, ...]``. D is the longest delay of conductance-based synapses in steps, 0
    without delays. Fields marked C are None with current-based synapses.

    Attributes:
        v: membrane of the (excitatory) neurons ``[N]``, mV; with current-based synapses above rest.
        g_exc, g_inh: their excitatory and inhibitory conductance ``[N]``, in units of the leak (C).
        refractory: their remaining refractory steps, int32 ``[N]``.
        v_inh, g_exc_inh, refractory_inh: the same for the inhibitory neurons, which are not inhibited (C).
        trace_pre, trace_pre2: traces of the inputs ``[I]``; C: in the last D + 1 steps, the oldest first
            ``[D + 1, I]``.
        trace_post, trace_post2: traces of the neurons ``[N]``.
        last_inputs: spikes of the inputs that neurons have not all received, the oldest first, bool: in the last step
            ``[1, I]``; C: in the last D steps ``[D, I]``.
        last_spikes: spikes of the neurons in the last ``inhibition_delay`` steps, the oldest first, bool ``[D, N]``;
            None with conductances.
    """

    v: Tensor
    g_exc: Tensor | None
    g_inh: Tensor | None
    refractory: Tensor
    v_inh: Tensor | None
    g_exc_inh: Tensor | None
    refractory_inh: Tensor | None
    trace_pre: Tensor
    trace_pre2: Tensor
    trace_post: Tensor
    trace_post2: Tensor
    last_inputs: Tensor
    last_spikes: Tensor | None


class DiehlCookResult(NamedTuple):
    """Result of P presentations of T steps and R steps of rest.

    For K networks at once each tensor is ``[K, ...]``.

    Attributes:
        counts: spikes of every (excitatory) neuron in every presentation, rest included, int32 ``[P, N]``.
        spikes: spikes of every step, bool ``[P, T + R, N]``; None without ``return_spikes``.
        state: state after the last step; None without ``return_state``.
    """

    counts: Tensor
    spikes: Tensor | None
    state: DiehlCookState | None


NOTHING = Rule("additive")  # constants for kernels if there is no rule


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
        check.same_dtype_and_device(op, "theta", theta, "w", w)
    else:
        check.tensor_of(op, "theta", theta, w.shape[:-1], theta_dtype, w.device)
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
    op: str, state: object, synapses: str, asked: object, device: torch.device, at_rest: Callable[[], DiehlCookState]
) -> DiehlCookState | None:
    """Return a state that the call may change: a copy of ``state``, or the resting state if it is returned."""
    if state is None:
        return at_rest() if asked else None
    if not isinstance(state, DiehlCookState):
        raise TypeError(f"{op}: state must be a DiehlCookState or None, got {type(state).__name__}")
    for name, value, like in zip(state._fields, state, at_rest()):
        if like is None and value is not None:
            raise ValueError(
                f"{op}: state.{name} must be None with synapses={synapses!r}, got a {type(value).__name__}; pass the "
                "state that a call with the same synapses returned"
            )
        if like is not None:
            check.tensor_of(op, f"state.{name}", value, like.shape, like.dtype, device)
    copies = (None if t is None else t.detach().clone(memory_format=torch.contiguous_format) for t in state)
    return DiehlCookState(*copies)  # type: ignore[arg-type]
