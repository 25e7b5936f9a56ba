"""Neurons that add up the currents of a step, which come in substeps, before they charge: for binary spikes.

:func:`snnfast.export.expand` puts them in the place of :class:`snnfast.nn.ILIF` and :class:`snnfast.nn.LI`. A step is
``steps`` substeps. ``n`` counts them, up to ``start`` before the first charge, then ``steps`` to each further one::

    a <- gathers a + x                    gathers = 1: currents since the last charge; 0: of this substep
    where n = start: charge by a + bias, as ILIF or LI in one step; a <- 0, n <- start - steps
    n <- n + 1
"""

from __future__ import annotations

import torch

from .own_neuron import neuron

__all__ = ["ilif_substeps", "li_substeps"]


@neuron
def ilif_substeps(
    fire, x, v, a, p, n, *, decay=0.25, v_threshold=1.0, bias=0.0, steps=4.0, start=0.0, gathers=1.0
):  # fmt: skip
    """:func:`snnfast.nn.equations.ilif` in binary spikes: the ``p`` spikes of a charge follow one by one.

    A charge gives at most ``steps`` spikes, the first one at once, the last one before the next charge.
    """
    a = gathers * a + x
    due = n >= start
    count, _, remainder = fire((decay * v + (a + bias)) / v_threshold, 0.0, 1.0)
    p = torch.where(due, count, p)
    v = torch.where(due, remainder * v_threshold, v)
    s = torch.clamp(p, 0, 1)
    return s, v, torch.where(due, 0.0, a), p - s, torch.where(due, start - steps, n) + 1


@neuron
def li_substeps(
    fire, x, v, a, n, *, decay=1.0, gain=1.0, v_rest=0.0, bias=0.0, steps=4.0, start=0.0, gathers=1.0
):  # fmt: skip
    """:func:`snnfast.ops.li`; the output is the membrane, which stays until the next charge."""
    a = gathers * a + x
    due = n >= start
    v = torch.where(due, v_rest + decay * (v - v_rest) + gain * (a + bias), v)
    return v, v, torch.where(due, 0.0, a), torch.where(due, start - steps, n) + 1
