"""BP-STDP of one layer pair: Tavanaei and Maida 2019."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnfast.calls import bp_stdp as calls
from snnfast.calls.call import equation


@equation(calls.bp_stdp_)
def bp_stdp_(call: calls.BpStdpCall) -> Tensor | None:
    w, spikes, error = call.w.detach(), call.pre.detach() != 0, call.error.detach()
    passed = w.new_zeros(spikes.shape) if call.return_error else None
    changes: list[Change] = []
    counts = w.new_zeros(spikes.shape[1:])
    for t in range(len(spikes)):
        move_window(counts, spikes, t, call.epsilon)
        if passed is not None:
            passed[t] = pass_back(w, error[t], counts)
        changes += [Change(call.scale * e, c.clone()) for e, c in zip(error[t], counts)]
        if call.each_step:
            apply(w, changes)
    apply(w, changes)
    return passed


class Change(NamedTuple):
    """Weight change of one sample in one step: the outer product of ``factor`` ``[O]`` and ``counts`` ``[I]``."""

    factor: Tensor
    counts: Tensor


def move_window(counts: Tensor, spikes: Tensor, t: int, epsilon: int) -> None:
    """Makes ``counts`` ``[B, I]`` of steps ``t - 1 - epsilon`` to ``t - 1`` those of ``t - epsilon`` to ``t``."""
    counts += spikes[t].to(counts)
    if t > epsilon:
        counts -= spikes[t - epsilon - 1].to(counts)


def pass_back(w: Tensor, error: Tensor, counts: Tensor) -> Tensor:
    """The error of the presynaptic neurons ``[B, I]``, summed in the order of the neurons that it comes from."""
    total = torch.zeros_like(counts)
    for o in range(w.shape[0]):
        total = total + error[:, o, None] * w[o]
    return torch.where(counts > 0, total, 0)


def apply(w: Tensor, changes: list[Change]) -> None:
    """Adds the changes one after the other, and forgets them."""
    with torch.no_grad():
        for change in changes:
            w += change.factor[:, None] * change.counts
    changes.clear()
