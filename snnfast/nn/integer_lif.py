"""Integer neurons for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import check, ops
from snnfast.reference.integer_lif import DECAY, MOST_CURRENT, MOST_MEMBRANE

from .state import Stateful

__all__ = ["IntegerLIF"]


class IntegerLIF(Stateful):
    """Leaky integrate-and-fire neurons in 32-bit integers; :func:`snnfast.ops.integer_lif` has the equation.

    :func:`snnfast.export.integer` converts trained neurons to them.

    Args:
        gain, bias, decay, v_threshold, v_reset, limit: as in :func:`snnfast.ops.integer_lif`.
        unit: real value of a membrane of 1, in the trained network.
        v_init: membrane of a layer at rest, before the first step.
        stateful: keep the membrane between calls; see :class:`snnfast.nn.state.Stateful`.

    Attributes:
        saturated: number of membranes clamped at ``limit`` so far, int64; the layer warns the first time.

    Example:
        >>> one = torch.ones(100, dtype=torch.int32)
        >>> net = IntegerLIF(one << 18, 0 * one)
        >>> net(torch.randint(-9, 99, (25, 8, 100), dtype=torch.int32)).dtype
        torch.int8
    """

    op = "integer_lif"
    surrogate = None
    constants = ("gain", "bias", "decay", "v_threshold", "v_reset", "limit")
    gain: Tensor
    bias: Tensor
    saturated: Tensor

    def __init__(
        self,
        gain: Tensor,
        bias: Tensor,
        *,
        decay: int = DECAY // 2,
        v_threshold: int | None = 2**24,
        v_reset: int | None = 0,
        limit: int = MOST_MEMBRANE,
        unit: float = 1.0,
        v_init: int = 0,
        stateful: bool = False,
    ) -> None:
        super().__init__(stateful=stateful)
        for name, value in (("gain", gain), ("bias", bias), ("saturated", torch.zeros((), dtype=torch.int64))):
            check.tensor("IntegerLIF", name, value)
            self.register_buffer(name, value.detach().clone(), persistent=name != "saturated")
        self.decay, self.v_threshold, self.v_reset = decay, v_threshold, v_reset
        self.limit = check.integer("IntegerLIF", "limit", limit, most=MOST_MEMBRANE)
        self.unit = check.positive("IntegerLIF", "unit", unit)
        self.v_init = check.integer("IntegerLIF", "v_init", v_init, -limit, limit)

    def forward(self, x: Tensor) -> Tensor:
        """Int32 sums ``[T, B, C, ...]`` -> int8 spikes, or int32 membranes if there is no threshold."""
        if self.stateful and self.v is not None:
            self._check_state("v", self.v, x)
        v = self.v if self.stateful else None
        if v is None and self.v_init:
            v = x.new_full(x.shape[1:], self.v_init)
        y, v, saturated = ops.integer_lif(x, v, **self._arguments(x))
        self._store_states(v)
        self._saw(saturated, x)
        return y

    def currents(self, x: Tensor) -> Tensor:
        """Return ``gain x + bias`` of int32 sums ``[T, B, C, ...]``."""
        along = (-1, *(1,) * (x.dim() - 3))
        current = x.long() * self.gain.view(along) + self.bias.view(along)
        check.in_range(type(self).__name__, "gain x + bias", current, -MOST_CURRENT, MOST_CURRENT)
        return current.int()

    def states_before(self, x: Tensor) -> tuple[Tensor | None, ...]:
        """Return the states before the first step of sums ``x``; None: at rest."""
        states = tuple(getattr(self, name) if self.stateful else None for name in self.states)
        for name, state in zip(self.states, states):
            if state is not None:
                self._check_state(name, state, x)
        return states

    def charge(self, current: Tensor, *states: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Run a step of whole currents ``[B, C, ...]``; return spikes, states and the number of cut membranes."""
        (v,) = states
        one = torch.ones_like(self.gain)
        y, v, saturated = ops.integer_lif(current[None], v, **self._arguments(current) | {"gain": one, "bias": 0 * one})
        return y[0], (v,), saturated

    def _saw(self, saturated: Tensor, x: Tensor) -> None:
        """Count the membranes that were clamped, and warn the first time."""
        if check.reads_values(True, x.device) and saturated:
            if not self.saturated:
                check.warn(
                    f"{type(self).__name__}: {int(saturated)} of {x.numel()} membranes were beyond {self.limit} and "
                    "cut; the layer's `saturated` counts on. Inputs or weights are larger than the threshold is meant "
                    "for"
                )
            self.saturated += saturated

    def _constant(self, name: str, x: Tensor) -> Any:
        return getattr(self, name)

    def extra_repr(self) -> str:
        """Return the number of channels and the constants."""
        shown = ["decay", "v_threshold", "v_reset", "limit", *["v_init"] * bool(self.v_init)]
        return f"{len(self.gain)} channels, " + ", ".join(f"{name}={getattr(self, name)}" for name in shown)
