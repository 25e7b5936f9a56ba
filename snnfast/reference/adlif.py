"""Adaptive LIF with two coupled states: Bittar and Garner 2022, Baronig et al. 2025."""

from __future__ import annotations

from typing import Any

from snnfast import check

from .lif import lif
from .neuron import Tau, choose, neuron

FORMS = ("baronig2025", "bittar2022")


def of_form(leak_w: check.Leak, *, form: str = "baronig2025", q: float = 120.0) -> Any:
    """Return the gain of the drive of ``w``, and whether the form is the symplectic one of Baronig et al."""
    check.choice("adlif", "form", form, FORMS)
    symplectic, factor = form == "baronig2025", check.number("adlif", "q", q)
    return leak_w.rate * factor if symplectic else 1.0, symplectic


@neuron(lif, chosen=of_form)
def adlif(
    fire, x, v, w, *, decay, gain, v_threshold, v_rest,
    decay_w=Tau(100.0), gain_w, a=0.5, b=1.0, symplectic: bool
):  # fmt: skip
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
    ``detach_reset=True``. ``"bittar2022"`` is the form of Bittar and Garner (A surrogate gradient spiking baseline for
    speech command recognition, Frontiers in Neuroscience 16, 2022) as in its code: a step's membrane and spike change
    ``w`` before the next step; the paper resets with ``v_reset=None``. Gradients flow to ``x``, ``v``,
    ``w`` and every parameter that is a tensor, also through ``w`` from step to step. Refractory periods and several
    spikes in a step are those of :func:`snnfast.ops.lif`.

    Args:
        w: adaptation current before the first step, ``x.shape[1:]``; 0 if None.
        form: ``"baronig2025"`` or ``"bittar2022"``: the equation of ``w``.
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
    h = v_rest + decay * (v - v_rest) + gain * (x - w)
    s, h, v = fire(h, v_threshold)
    m = choose(symplectic, v, h)
    return s, v, decay_w * w + gain_w * (a * (m - v_rest) + b * s)
