"""Recurrent integer neurons for inference: :class:`IntegerRecurrent`."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.integer_lif import MOST_CURRENT

from .delaying import FeedingBack
from .integer_adlif import IntegerAdLIF
from .integer_lif import IntegerLIF

__all__ = ["PARTS", "IntegerRecurrent"]

PARTS = 128  # of a spike that is between two steps


class IntegerRecurrent(FeedingBack):
    """:class:`snnfast.nn.Recurrent` in integers; :func:`snnfast.export.integer` makes it.

    The current of a step, which ``neuron`` takes without its own ``gain`` and ``bias``, is::

        I_i[t] = neuron.gain[i] x_i[t] + neuron.bias[i] + gain[i] sum_j weight_ij r_j[t]
        r_j[t] = s_j[t-1]                                                        without delays
        r_j[t] = (128 - late[j]) s_j[t-1-delay[j]] + late[j] s_j[t-2-delay[j]]      with delays

    Args:
        neuron: integer neurons that fire.
        weight: int8 ``[H, H]``, from neuron ``j`` to neuron ``i`` at ``[i, j]``.
        gain: int32 ``[H]``, current of a recurrent sum of 1.
        delay: int32 ``[H]``, whole steps of each sending neuron, in addition to the one step; None: no delays.
        late: int32 ``[H]``, what comes on top of these, in 128ths of a step, 0 to 127.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """

    max_delay = 0.0
    d = None
    neuron: IntegerLIF
    weight: Tensor
    gain: Tensor
    delay: Tensor | None
    late: Tensor | None

    def __init__(
        self,
        neuron: IntegerLIF,
        weight: Tensor,
        gain: Tensor,
        *,
        delay: Tensor | None = None,
        late: Tensor | None = None,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        if type(neuron) not in (IntegerLIF, IntegerAdLIF) or neuron.v_threshold is None or neuron.v_init:
            raise TypeError(f"{layer}: neuron must be integer neurons that fire, from rest, got {check.kind(neuron)}")
        H = len(neuron.gain)
        if (delay is None) != (late is None):
            raise ValueError(f"{layer}: delay and late must be given together")
        tensors = {"weight": (weight, (H, H)), "gain": (gain, (H,)), "delay": (delay, (H,)), "late": (late, (H,))}
        for name, (value, shape) in tensors.items():
            if value is not None:
                check.shape(layer, name, value, shape)
                check.dtype(layer, name, value.dtype, (torch.int8 if name == "weight" else torch.int32,))
                value = value.detach().clone()
            self.register_buffer(name, value)
        if delay is not None and late is not None:
            check.in_range(layer, "delay", delay, 0, 2**20)
            check.in_range(layer, "late", late, 0, PARTS - 1)
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        """Int32 sums ``[T, B, H]`` -> int8 spikes."""
        check.sequence(type(self).__name__, x, (torch.int32,))
        neuron, q, H = self.neuron, self.weight.double(), len(self.gain)
        check.shape(type(self).__name__, "x", x, (*x.shape[:2], H))
        past = self.past if self.stateful else None
        if past is not None:
            self._check_state("past", past, x)
        none = x.new_zeros((1, *x.shape[1:]), dtype=torch.int8)
        sent = list(none if past is None else past)
        states, before, total = neuron.states_before(x), len(sent), x.new_zeros((), dtype=torch.int64)
        for current in neuron.currents(x):
            sums = (self._arriving(sent).double() @ q.t()).long()  # below 2^53: exact
            fed = current + self.gain * sums
            check.in_range(type(self).__name__, "the current", fed, -MOST_CURRENT, MOST_CURRENT)
            y, states, saturated = neuron.charge(fed.int(), *states)
            sent.append(y)
            total = total + saturated
        neuron._store_states(*states)
        neuron._saw(total, x)
        spikes = torch.stack(sent)[before:] if len(x) else x.to(torch.int8)
        if self.stateful:
            self._keep_past(past, spikes, self._longest())
        return spikes

    def _arriving(self, sent: list[Tensor]) -> Tensor:
        """Return the spikes that arrive at the step after ``sent``, times 128 with delays."""
        if self.delay is None or self.late is None:
            return sent[-1]
        spikes = torch.stack([torch.zeros_like(sent[0]), *sent[-self._longest() :]]).int()
        early = (len(spikes) - 1 - self.delay).clamp(min=0)  # row 0: before the first
        index = torch.stack([early, (early - 1).clamp(min=0)])[:, None].expand(-1, spikes.shape[1], -1)
        first, second = spikes.gather(0, index)
        arriving: Tensor = (PARTS - self.late) * first + self.late * second
        return arriving

    def _longest(self) -> int:
        return 1 if self.delay is None else int(self.delay.max()) + 2
