"""The network of Diehl and Cook: whole presentations, learning included, in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import backend, reference
from snnfast.calls.call import flatten, unflatten
from snnfast.calls.presentations import Events, Presentations, Rates
from snnfast.plasticity import Rule
from snnfast.reference.diehl_cook import DiehlCookResult, DiehlCookState, prepare, rest


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
    """Presents P stimuli, one after the other, to N competing neurons that adapt and learn.

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

    then traces and weights as :mod:`snnfast.plasticity` says, with the spikes ``s_in[t]`` and ``s[t]``. Inhibition is
    direct: in the paper an excitatory spike makes its inhibitory partner fire, which reaches all others; with the
    constants of n3ml that is the formula above with D = 2.

    After each presentation the weights to neurons that were plastic in it (that spiked, or entered it with a trace) are
    scaled to the sum ``norm``. A presentation starts at rest unless ``state`` is given; then nothing is reset, and a
    sequence cut in two gives what it gives in one. ``w`` and ``theta`` are **changed in place**; nothing is changed
    when an error is raised. There is no gradient.

    On the CPU the work follows the spikes: as long as a bound says that no neuron of a group of 64 can reach its
    threshold, their steps are only noted down. Spikes, weights and thresholds are those of the step-by-step evaluation,
    bit for bit. Without learning (``rule=None, theta_plus=0, tau_theta=None``) and ``state`` presentations run in
    parallel. On CUDA all presentations are one launch.

    Args:
        x: the stimuli: spikes ``[P, T, I]`` (bool, uint8, float32 or float64; a spike is what is not 0),
            :class:`Events`, or :class:`Rates` (Poisson spikes made inside).
        w: weights ``[N, I]``, float32 or float64, within the bounds of ``rule``. Fastest if ``w.T`` is contiguous.
        theta: adaptive part of the thresholds ``[N]``, mV, of the dtype of ``w``.
        rule: how ``w`` learns, from :mod:`snnfast.plasticity`; None: it does not.
        norm: sum to which weights are normalised after a presentation; None: they are not.
        state: to go on from, as returned.
        dt: length of a step, ms.
        tau: membrane time constant, ms.
        v_threshold: threshold above rest, mV.
        v_reset: membrane after a spike, above rest, mV.
        refractory: time for which a neuron receives nothing after a spike, ms.
        inhibition: effect of a spike on all other neurons, mV.
        inhibition_delay: steps from a spike to its inhibition.
        one_winner: let at most one neuron spike in a step.
        theta_plus: growth of a neuron's threshold per spike, mV.
        tau_theta: time constant of the decay of the threshold, ms; None: no decay.
        return_spikes: return the raster.
        return_state: return the state after the last step; without it the CPU skips what no spike depends on.
        validate: look at the values of ``x``, ``w`` and ``theta``; on CUDA this waits for the device.

    Returns:
        :class:`DiehlCookResult`: ``counts`` int32 ``[P, N]``; ``spikes`` bool ``[P, T, N]`` and ``state``, or None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    kernels = backend.library("diehl_cook", w) if isinstance(w, Tensor) else None
    if kernels is None:
        return reference.diehl_cook(
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
    buffers: DiehlCookState | None = None
    if state is not None:
        buffers = DiehlCookState(*(s.clone(memory_format=torch.contiguous_format) for s in state))
    elif return_state:
        buffers = rest(w, a.inhibition_delay)
    adaptive = theta.detach()
    thresholds = adaptive.contiguous()
    counts, spikes = kernels.diehl_cook_(
        w.detach(),
        thresholds,
        *flatten(a.x),
        a.rule is not None,
        *flatten(a.rule or Rule("additive").constants(1.0)),
        [
            a.decay,
            a.v_threshold,
            a.v_reset,
            a.inhibition,
            a.theta_plus,
            a.theta_decay,
            a.norm,
        ],
        a.refractory,
        a.inhibition_delay,
        a.one_winner,
        [] if buffers is None else list(buffers),
        state is not None,
        return_spikes,
    )
    if thresholds.data_ptr() != adaptive.data_ptr():
        adaptive.copy_(thresholds)
    return DiehlCookResult(
        counts, spikes if return_spikes else None, buffers if return_state else None
    )


def register(namespace: str) -> None:
    """Makes the kernel in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::diehl_cook_")
    def _(w: Tensor, theta: Tensor, *flat: Any) -> tuple[Tensor, Tensor]:
        count, steps = unflatten(Presentations, flat).shape
        shape = (count if flat[-1] else 0, steps, w.shape[0])
        counts = w.new_empty((count, w.shape[0]), dtype=torch.int32)
        return counts, w.new_empty(shape, dtype=torch.bool)
