"""Adaptive integer neurons for inference: :class:`IntegerAdLIF`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import check
from snnfast.reference.integer_lif import DECAY

from .integer_lif import IntegerLIF

__all__ = ["MOST_ADAPTATION", "IntegerAdLIF"]

MOST_ADAPTATION = 2**29 - 1  # so that v + current - w fits in 32 bits
MOST_DRIVE = 2**28


class IntegerAdLIF(IntegerLIF):
    """:class:`snnfast.nn.AdLIF` in 32-bit integers; :func:`snnfast.export.integer` makes it.

    For every neuron of channel ``c`` and ``t = 0 ... T-1``, where ``>>`` rounds down::

        h[t] = clamp((decay[c] v[t-1] >> 15) + gain[c] x[t] + bias[c] - w[t-1], -limit, limit)
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset;  h[t] - s[t] v_threshold  with v_reset None
        w[t] = clamp((decay_w[c] w[t-1] >> 15) + (a[c] m[t] >> 15) + b[c] s[t], -(2^29 - 1), 2^29 - 1)

    with ``m = v`` if ``symplectic``, else ``h``. ``w`` is an adaptation current times the gain of the membrane.

    Args:
        decay, decay_w: decays times ``2^15``, ``[C]``, 0 to ``2^15``.
        a: drive by the membrane times ``2^15``, ``[C]``, ``-2^15`` to ``2^15``.
        b: drive by a spike, ``[C]``, up to ``2^28`` in magnitude.
        symplectic: whether the membrane after the reset drives ``w``.
        gain, bias, arguments: those of :class:`IntegerLIF`.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """

    states = ("v", "w")
    of_channels = ("decay", "decay_w", "a", "b")
    v: Tensor | None
    w: Tensor | None
    decay: Tensor  # type: ignore[assignment]
    decay_w: Tensor
    a: Tensor
    b: Tensor

    def __init__(
        self,
        gain: Tensor,
        bias: Tensor,
        *,
        decay: Tensor,
        decay_w: Tensor,
        a: Tensor,
        b: Tensor,
        symplectic: bool = True,
        **arguments: Any,
    ) -> None:
        super().__init__(gain, bias, **arguments)
        if self.v_threshold is None:
            raise ValueError("IntegerAdLIF: v_threshold must be an integer, got None")
        del self.decay
        bounds = {"decay": (0, DECAY), "decay_w": (0, DECAY), "a": (-DECAY, DECAY), "b": (-MOST_DRIVE, MOST_DRIVE)}
        for (name, ends), value in zip(bounds.items(), (decay, decay_w, a, b)):
            check.shape("IntegerAdLIF", name, value, (len(gain),))
            check.dtype("IntegerAdLIF", name, value.dtype, (torch.int32,))
            check.in_range("IntegerAdLIF", name, value, *ends)
            self.register_buffer(name, value.detach().clone())
        self.symplectic = check.flag("IntegerAdLIF", "symplectic", symplectic)

    def forward(self, x: Tensor) -> Tensor:
        """Int32 sums ``[T, B, C, ...]`` -> int8 spikes."""
        check.sequence("IntegerAdLIF", x, (torch.int32,))
        states, rows, total = self.states_before(x), [], x.new_zeros((), dtype=torch.int64)
        for current in self.currents(x):
            y, states, saturated = self.charge(current, *states)
            rows.append(y)
            total = total + saturated
        self._store_states(*states)
        self._saw(total, x)
        return torch.stack(rows) if rows else x.to(torch.int8)

    def charge(self, current: Tensor, *states: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Run a step of whole currents ``[B, C, ...]``; return spikes, states and the number of cut membranes."""
        along = (-1, *(1,) * (current.dim() - 2))
        decay, decay_w, a, b = (value.view(along).long() for value in (self.decay, self.decay_w, self.a, self.b))
        v, w = (current.new_zeros(current.shape) if state is None else state for state in states)
        h = (v * decay >> 15) + current - w
        cut = h.clamp(-self.limit, self.limit)
        threshold: Any = self.v_threshold
        spikes = cut >= threshold
        v = torch.where(spikes, cut - threshold if self.v_reset is None else self.v_reset, cut)
        drive = (w * decay_w >> 15) + ((v if self.symplectic else cut) * a >> 15) + b * spikes
        w = drive.clamp(-MOST_ADAPTATION, MOST_ADAPTATION)
        return spikes.to(torch.int8), (v.int(), w.int()), (cut != h).sum() + (w != drive).sum()

    def extra_repr(self) -> str:
        """Return the number of channels and the constants."""
        shown = ["v_threshold", "v_reset", "limit", "symplectic"]
        return f"{len(self.gain)} channels, " + ", ".join(f"{name}={getattr(self, name)}" for name in shown)
