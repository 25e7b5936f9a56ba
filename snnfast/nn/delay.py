"""The layer :class:`Delay`: a learned delay for each channel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from snnfast import check, ops

from .delaying import Delaying
from .spiking import per_channel, show

__all__ = ["Delay"]


class Delay(Delaying):
    """Learned delays, one for each channel: ``y[t] = (1 - f) x[t - n] + f x[t - n - 1]``.

    Computed by :func:`snnfast.ops.delay`. ``n`` and ``f`` are the whole part and the fraction of the channel's delay
    ``d``, in steps. Between two layers they are axonal delays of the first one; delays of single synapses have more
    parameters and are no better (Queant et al. 2025).

    Args:
        channels: the channels of ``x`` ``[T, B, channels, ...]``.
        max_delay: the longest delay, in steps; whole or not.
        sigma: steps by which the kernel is wider than linear interpolation, on each side; see
            :func:`snnfast.ops.delay`. Narrow it during training (DCLS, DelRec) by ``layer.sigma *= 0.95``, and set it
            to 0 at the end.
        stateful: keep between calls the inputs that are still delayed; see :class:`snnfast.nn.state.Stateful`.

    Attributes:
        d: the parameter ``[channels]``, drawn evenly from 0 to ``max_delay``. Used clamped to this range; its gradient
            passes the clamp, so that a delay that has left the range can come back.
        past: the inputs that are still delayed, ``[P, B, channels, ...]``, the latest last; None at rest.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "delay"
    d: nn.Parameter
    surrogate = None

    def __init__(self, channels: int, max_delay: float, *, sigma: float = 0.0, stateful: bool = False) -> None:
        super().__init__(stateful=stateful)
        channels = check.integer("Delay", "channels", channels)
        self.max_delay = check.at_least_zero("Delay", "max_delay", max_delay)
        self.sigma = check.at_least_zero("Delay", "sigma", sigma)
        self.d = nn.Parameter(torch.rand(channels) * self.max_delay)

    @property
    def delays(self) -> Tensor:
        """The current delays in steps, ``[channels]``, from 0 to ``max_delay``."""
        return self._learned_delays(self.d)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, B, channels, ...]`` -> the same shape, each channel later by its delay."""
        check.sequence("Delay", x)
        if x.dim() < 3 or x.shape[2] != len(self.d):
            raise ValueError(f"Delay: x must have shape [T, B, {len(self.d)}, ...], got {list(x.shape)}")
        (past,) = self._load_states(x)
        past = None if past is None else past.to(x.dtype)
        d = per_channel(self, "d", self.delays.to(check.state_dtype(x.dtype)), x)
        y = ops.delay(x, d, past, sigma=self.sigma)
        if self.stateful:
            self._keep_past(past, x, self._longest())
        return y

    def _longest(self) -> int:
        return math.ceil(self.max_delay + self.sigma + 1)

    def extra_repr(self) -> str:
        """Return channels, longest delay, and other settings that are not the default."""
        more = {name: getattr(self, name) for name in ("sigma", "stateful") if getattr(self, name)}
        return show({"channels": len(self.d), "max_delay": self.max_delay} | more)
