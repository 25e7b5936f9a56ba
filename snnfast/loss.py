"""Losses on spike times, and the decision by the first spike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

__all__ = [
    "first_spike",
    "first_spike_cross_entropy",
    "revival",
    "spike_time_squared_error",
    "virtual_times",
]


def virtual_times(
    t: Tensor, u_max: Tensor, *, t_max: float, v_threshold: float = 1.0, scale: float = 4.0
) -> Tensor:
    """Spike times with a finite time, and a gradient, for silent neurons.

    ::

        t_max + scale (1 - u_max / v_threshold)      where t is inf, else t

    so a silent neuron comes after all that fire, and the later the farther it stayed from the threshold.

    Args:
        t: spike times ``[B, O]`` in milliseconds, ``inf`` for silent.
        u_max: largest potential of silent neurons, ``[B, O]``; of :class:`snnfast.nn.SpikeProp`.
        t_max: end of the observation.
        v_threshold: threshold.
        scale: milliseconds for a neuron that stays at 0.
    """
    return torch.where(t.isinf(), t_max + scale * (1 - u_max / v_threshold), t)


def spike_time_squared_error(t: Tensor, target: Tensor) -> Tensor:
    """SpikeProp's loss: half the squared distance to the target times, summed over neurons, mean over samples.

    A neuron with ``inf`` for time or target does not count (Bohte et al. 2002, equation 4).

    Args:
        t: spike times ``[B, O]`` in milliseconds.
        target: times wanted, broadcast to ``[B, O]``.

    Returns:
        scalar, in ms^2.
    """
    # Masked before the square: inf - inf has no gradient, not even one that is multiplied by 0.
    counts = t.isfinite() & target.isfinite()
    distance = torch.where(counts, t, 0) - torch.where(counts, target, 0)
    return distance.square().sum() / (2 * len(t))


def first_spike_cross_entropy(
    t: Tensor, labels: Tensor, *, temperature: float = 1.0, t_max: float | None = None
) -> Tensor:
    """Cross-entropy of ``softmax(-t / temperature)`` with the labels, mean over samples.

    Pulls the neuron of the class before all others, by about ``temperature`` milliseconds, and asks for no time in
    particular. Silent neurons take no part; with :func:`virtual_times` they do, and a sample whose own neuron is
    silent needs them: it has an infinite loss otherwise.

    Args:
        t: spike times ``[B, classes]`` in milliseconds.
        labels: int64 ``[B]``.
        temperature: in milliseconds.
        t_max: if given, the end of the observation takes part like a neuron of no class that fires then. With virtual
            times alone it is enough that the right output stays silent by less than the others, and then there is no
            first spike to decide.

    Source: Mostafa, Supervised learning based on temporal coding in spiking neural networks, IEEE TNNLS 29 (2018),
    with -t for his exp(t).
    """
    if t_max is not None:
        t = F.pad(t, (0, 1), value=t_max)
    return F.cross_entropy(-t / temperature, labels)


def first_spike(t: Tensor, t_max: float = torch.inf) -> Tensor:
    """The neuron that fires first, int64 ``[B]``; -1 if none fires up to ``t_max``: a silent neuron never wins.

    Args:
        t: spike times ``[B, O]``, ``inf`` (or virtual, after ``t_max``) for silent neurons; the lower index wins a tie.
        t_max: end of the observation.
    """
    time, index = t.min(1)
    return index.masked_fill((time > t_max) | time.isinf(), -1)


def revival(t: Tensor, u_max: Tensor, *, v_threshold: float = 1.0, share: float = 0.9) -> Tensor:
    """A penalty on neurons that are silent for more than ``share`` of a batch, to be added to a loss.

    Their mean distance to the threshold, ``1 - u_max / v_threshold``, over the samples they are silent for, summed over
    neurons. Neurons that are silent now and then are left alone: that is how a code becomes sparse.

    Args:
        t: spike times ``[B, O]``, ``inf`` for silent.
        u_max: largest potential of silent neurons, ``[B, O]``.
        v_threshold: threshold.
        share: in [0, 1).
    """
    silent = t.isinf()
    dead = silent & (silent.float().mean(0) > share)
    return torch.where(dead, 1 - u_max / v_threshold, 0).sum() / len(t)
