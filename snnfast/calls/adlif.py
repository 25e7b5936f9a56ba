"""Calls of adaptive LIF neurons with two coupled states."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .lif import lif
from .neuron import membrane, neuron_op, refractory_call, spiking

FORMS = ("baronig2025", "bittar2022")


class AdlifCall(NamedTuple):
    """See :func:`adlif`; ``symplectic`` is the form of Baronig et al."""

    x: Tensor
    v: Tensor | None
    w: Tensor | None
    decay: Parameter
    gain: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    decay_w: Parameter
    gain_w: Parameter
    a: Parameter
    b: Parameter
    symplectic: bool
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron_op(lif)
def adlif(
    x: Tensor,
    v: Tensor | None = None,
    w: Tensor | None = None,
    *,
    form: str = "baronig2025",
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    tau_w: float | Tensor | None = None,
    decay_w: float | Tensor | None = None,
    a: float | Tensor = 0.5,
    b: float | Tensor = 1.0,
    q: float = 120.0,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    refractory: int = 0,
    r: Tensor | None = None,
    max_spikes: int | None = 1,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> AdlifCall:
    """LIF neurons with an adaptation current, driven by membrane and spikes (adLIF), over all steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v_rest + decay (v[t-1] - v_rest) + gain (x[t] - w[t-1])
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset given)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)
        w[t] = decay_w w[t-1] + q/tau_w (a (v[t] - v_rest) + b s[t])               form="baronig2025"
        w[t] = decay_w w[t-1] + a (h[t] - v_rest) + b s[t]                       form="bittar2022"

    with ``decay = 1 - 1/tau``, ``gain = 1/tau`` if ``decay_input`` else 1, and ``decay_w = 1 - 1/tau_w``. The
    papers have ``decay = exp(-1/tau)``: give that as ``decay``.

    ``"baronig2025"`` is the symplectic form (Baronig et al., Advancing spatio-temporal processing through adaptation
    in spiking neural networks, Nature Communications 16, 2025); the paper resets to ``v_reset=0.0`` with
    ``detach_reset=True``. ``"bittar2022"`` is that of Bittar and Garner (A surrogate gradient spiking baseline for
    speech command recognition, Frontiers in Neuroscience 16, 2022) as in its code: a step's membrane and spike change
    ``w`` before the next step; the paper resets with ``v_reset=None``. Gradients flow to ``x``, ``v``,
    ``w`` and every parameter that is a tensor, also through ``w`` from step to step. Refractory periods and several
    spikes in a step are those of :func:`snnfast.ops.lif`.

    Args:
        w: adaptation current before the first step, ``x.shape[1:]``; 0 if None.
        form: ``"baronig2025"`` or ``"bittar2022"``: what drives ``w``.
        tau_w: time constant of the adaptation in steps, at least 1; 100.0 if neither it nor ``decay_w`` is given.
        decay_w: ``1 - 1/tau_w`` instead of ``tau_w``, in [0, 1].
        a: strength with which the membrane drives ``w``.
        b: strength with which a spike drives ``w``.
        q: factor on both in ``"baronig2025"``; ``"bittar2022"`` has none.
        decay_input: scale the input and ``w`` by ``1/tau``.
        detach_reset: no gradient through the spike into the reset of the membrane; that into ``w`` by ``b`` stays.
        return_state: return the last membrane and adaptation; without it they are None.

    Returns:
        ``(spikes, v, w)``, with ``refractory`` then ``r``, with ``return_v_seq`` then ``v_seq``.
    """
    op = "adlif"
    check.sequence(op, x)
    check.state(op, "v", v, x)
    check.state(op, "w", w, x)
    check.choice(op, "form", form, FORMS)
    leak = check.leak(op, "decay_w", tau_w, decay_w, 100.0, x)
    symplectic, factor = form == "baronig2025", check.number(op, "q", q)
    call = AdlifCall(
        x=x,
        v=v,
        w=w,
        decay_w=leak.decay,
        gain_w=leak.rate * factor if symplectic else 1.0,
        a=check.parameter(op, "a", a, x),
        b=check.parameter(op, "b", b, x),
        symplectic=symplectic,
        **membrane(op, x, tau, decay, decay_input, v_threshold, v_reset, v_rest),
        **spiking(op, strict, surrogate, detach_reset, return_state, return_v_seq),
    )
    return refractory_call(op, call, r, refractory, max_spikes)
