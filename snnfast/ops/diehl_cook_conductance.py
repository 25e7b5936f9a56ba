"""The network of Diehl and Cook with the paper's conductances: whole presentations, learning included, in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import backend, reference
from snnfast.calls.call import flatten, unflatten
from snnfast.calls.presentations import Events, Presentations, Rates
from snnfast.plasticity import Rule
from snnfast.reference.diehl_cook_conductance import (
    OP,
    DiehlCookConductanceResult,
    DiehlCookConductanceState,
    at_rest,
    prepare,
)


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
    """Presents P stimuli, one after the other, to N excitatory and N inhibitory neurons with conductances.

    Diehl and Cook, Front. Comput. Neurosci. 9:99 (2015), sections 2.1 to 2.3, with the constants of the authors'
    program. Excitatory neuron j, with conductances in units of its leak::

        tau dv/dt = (v_rest - v) + g_exc (e_exc - v) + g_inh (e_inh - v)
        tau_g_exc dg_exc/dt = -g_exc        tau_g_inh dg_inh/dt = -g_inh        tau_theta dtheta/dt = -theta
        input i spiked a delay ago:             g_exc += w[j, i]
        inhibitory neuron k != j spikes:        g_inh += w_inh_exc
        v >= v_threshold + theta:               spike; v = v_reset, held for the refractory time; theta += theta_plus

    and its inhibitory partner, with constants of its own, ``g_exc += w_exc_inh`` when neuron j spikes, and no
    inhibition. In a step, with ``m = tau_g (1 - exp(-dt / tau_g)) / dt`` the mean of a conductance over the step::

        G = 1 + m_exc g_exc + m_inh g_inh       target = (v_rest + m_exc g_exc e_exc + m_inh g_inh e_inh) / G
        v <- target + (v - target) exp(-dt G / tau),    unless refractory
        g <- g exp(-dt / tau_g),    theta <- theta exp(-dt / tau_theta)
        spikes of both populations;    arrivals, which act from the next step on;    resets;    plasticity

    so that a spike carries the same charge whatever ``dt`` is, and no inhibition, however strong, carries the membrane
    beyond ``e_inh``. Traces and weights follow :mod:`snnfast.plasticity`; a synapse sees the spikes and traces of its
    input as they were a delay ago, and its weight drives the neuron before it learns.

    A presentation is the stimulus and then ``rest`` without input. It starts at rest unless ``state`` is given; then
    nothing is reset, and a sequence cut in two gives what it gives in one. Before each presentation the weights to
    every neuron are scaled to the sum ``norm``. ``w`` and ``theta`` are **changed in place**; nothing is changed when
    an error is raised. There is no gradient.

    Args:
        x: the stimuli: spikes ``[P, T, I]`` (bool, uint8, float32 or float64; a spike is what is not 0),
            :class:`Events`, or :class:`Rates` (Poisson spikes made inside).
        w: weights ``[N, I]``, float32 or float64, at least 0 and within the bounds of ``rule``. Fastest if ``w.T`` is
            contiguous.
        theta: adaptive part of the thresholds ``[N]``, mV, float64: its decay of 5e-8 a step is below the resolution of
            float32. The authors start at 20.
        rule: how ``w`` learns, from :mod:`snnfast.plasticity` (the authors': ``triplet()``); None: it does not.
        norm: sum to which weights are normalised before a presentation (the authors': 78); needs ``rule``, whose bounds
            hold; None: they are not.
        state: to go on from, as returned.
        delays: steps from an input's spike to its arrival at each neuron, uint8 ``[N, I]`` (the authors': uniform in 0
            to 10 ms, ``torch.randint(0, 21, w.shape, dtype=torch.uint8)``); None: 0.
        dt: length of a step, ms.
        rest: time without input after each stimulus, ms.
        tau: membrane time constant of the excitatory neurons, ms.
        v_rest: their resting potential, mV.
        v_reset: where a spike resets them, mV.
        v_threshold: their threshold without ``theta``, mV: -52, less the 20 with which theta starts.
        refractory: for how long a spike holds them, ms, counted from the step after it.
        tau_inh: membrane time constant of the inhibitory neurons, ms.
        v_rest_inh: their resting potential, mV.
        v_reset_inh: where a spike resets them, mV.
        v_threshold_inh: their threshold, mV.
        refractory_inh: for how long a spike holds them, ms.
        tau_g_exc: time constant of the excitatory conductances, ms.
        tau_g_inh: time constant of the inhibitory conductance, ms.
        e_exc: reversal potential of the excitatory conductances, mV.
        e_inh: reversal potential of the inhibitory conductance, mV.
        w_exc_inh: from an excitatory neuron to its inhibitory partner.
        w_inh_exc: from an inhibitory neuron to all excitatory ones but its partner.
        theta_plus: growth of a neuron's threshold per spike, mV.
        tau_theta: time constant of the decay of the threshold, ms; None: no decay.
        return_spikes: return the raster.
        return_state: return the state after the last step.
        validate: look at the values of ``x``, ``w`` and ``theta``; on CUDA this waits for the device, as ``delays``
            always do.

    Returns:
        :class:`DiehlCookConductanceResult`: ``counts`` int32 ``[P, N]``; ``spikes`` bool ``[P, T + R, N]`` (R steps of
        rest) and ``state``, or None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    kernels = backend.library(OP, w) if isinstance(w, Tensor) else None
    if kernels is None:
        return reference.diehl_cook_conductance(
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
            return_spikes=return_spikes,
            return_state=return_state,
            validate=validate,
        )
    a = prepare(
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
    buffers: DiehlCookConductanceState | None = None
    if state is not None:
        buffers = DiehlCookConductanceState(
            *(s.clone(memory_format=torch.contiguous_format) for s in state)
        )
    elif return_state:
        buffers = at_rest(w.detach(), a)
    adaptive = theta.detach()
    thresholds = adaptive.contiguous()
    counts, spikes = kernels.diehl_cook_conductance_(
        w.detach(),
        thresholds,
        *flatten(a.x),
        delays,
        a.longest_delay,
        a.rule is not None,
        *flatten(a.rule or Rule("additive").constants(1.0)),
        [a.exc.rate, a.exc.v_rest, a.exc.v_reset, a.exc.v_threshold],
        [a.inh.rate, a.inh.v_rest, a.inh.v_reset, a.inh.v_threshold],
        [
            a.e_exc,
            a.e_inh,
            a.decay_exc,
            a.decay_inh,
            a.mean_exc,
            a.mean_inh,
            a.w_exc_inh,
            a.w_inh_exc,
            a.theta_plus,
            a.theta_decay,
            a.norm,
        ],
        a.exc.refractory,
        a.inh.refractory,
        a.rest_steps,
        [] if buffers is None else list(buffers),
        state is not None,
        return_spikes,
    )
    if thresholds.data_ptr() != adaptive.data_ptr():
        adaptive.copy_(thresholds)
    return DiehlCookConductanceResult(
        counts, spikes if return_spikes else None, buffers if return_state else None
    )


def register(namespace: str) -> None:
    """Makes the kernel in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::diehl_cook_conductance_")
    def _(w: Tensor, theta: Tensor, *flat: Any) -> tuple[Tensor, Tensor]:
        count, steps = unflatten(Presentations, flat).shape
        rest_steps, return_spikes = flat[-4], flat[-1]
        shape = (count if return_spikes else 0, steps + rest_steps, w.shape[0])
        counts = w.new_empty((count, w.shape[0]), dtype=torch.int32)
        return counts, w.new_empty(shape, dtype=torch.bool)
