"""Integer neurons with several spikes a step, as numbers or one by one: :class:`IntegerILIF`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import check, ops

from .integer_lif import IntegerLIF

__all__ = ["IntegerILIF"]


class IntegerILIF(IntegerLIF):
    """:class:`snnfast.nn.ILIF` in 32-bit integers, or its binary spikes; :func:`snnfast.export.integer` makes it.

    ::

        h[t] = clamp(floor(decay v[t-1] / 2^15) + gain[c] x[t] + bias[c], -limit, limit)
        s[t] = clamp(floor((h[t] + v_threshold / 2) / v_threshold), 0, most)           half rounds up
        v[t] = h[t] - s[t] v_threshold

    With ``steps`` above 1 a step is as many substeps: sums add up, charge together, and the spikes follow one by one,
    as in :mod:`snnfast.nn.substeps`. Without a threshold the output is ``h``.

    Args:
        most: largest number of spikes in a step.
        steps: substeps of a step.
        start: substeps before the first charge.
        arguments: those of :class:`IntegerLIF`; ``v_reset`` must be None.
    """

    v: Tensor | None
    a: Tensor | None
    p: Tensor | None
    n: Tensor | None

    def __init__(
        self, gain: Tensor, bias: Tensor, *, most: int, steps: int = 1, start: int = 0, **arguments: Any
    ) -> None:
        self.states = ("v", "a", "p", "n") if steps > 1 else ("v",)
        super().__init__(gain, bias, **arguments)
        self.most = check.integer("IntegerILIF", "most", most, most=127)
        self.steps = check.integer("IntegerILIF", "steps", steps)
        self.start = check.integer("IntegerILIF", "start", start, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Int32 sums ``[T, B, C, ...]`` -> int8 spikes, or int32 membranes if there is no threshold."""
        still = x.new_zeros(x.shape[1:])
        v, *more = (getattr(self, name) if self.stateful else None for name in self.states)
        v = torch.full_like(still, self.v_init) if v is None else v
        a, p, n = (still if value is None else value for value in more or (None,) * 3)
        rows, total = [], still.sum()
        for row in x:
            if self.steps > 1:
                a = a + row if self.start else row
                due = n >= self.start
                h, saturated = self._charged(a, v)
                total = total + torch.where(due.any(), saturated, 0)
                count, after = self._fired(h)
                v, p, a = torch.where(due, after, v), torch.where(due, count, p), torch.where(due, 0, a)
                n = torch.where(due, self.start - self.steps, n) + 1
                y = p.clamp(max=1) if self.v_threshold is not None else v
                p = p - p.clamp(max=1)
            else:
                h, saturated = self._charged(row, v)
                total = total + saturated
                y, v = self._fired(h)
                y = y if self.v_threshold is not None else v
            rows.append(y)
        self._store_states(*(v, a, p, n)[: len(self.states)])
        self._saw(total, x)
        y = torch.stack(rows) if rows else x
        return y if self.v_threshold is None else y.to(torch.int8)

    def _charged(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the membrane that currents charge, and how many membranes were cut."""
        arguments = self._arguments(x) | {"v_threshold": None, "v_reset": None}
        _, h, saturated = ops.integer_lif(x[None], v, **arguments)
        return h, saturated

    def _fired(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of spikes, and the membrane after the reset."""
        if self.v_threshold is None:
            return torch.zeros_like(h), h
        count = torch.div(h + self.v_threshold // 2, self.v_threshold, rounding_mode="floor").clamp(0, self.most)
        return count, h - count * self.v_threshold

    def extra_repr(self) -> str:
        """Return the number of channels and the constants."""
        more = ["most", *(["steps", "start"] if self.steps > 1 else [])]
        return f"{super().extra_repr()}, " + ", ".join(f"{name}={getattr(self, name)}" for name in more)
