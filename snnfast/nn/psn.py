"""Parallel spiking neurons: each step sees other steps by a matrix that is learned, and nothing is reset."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast import check
from snnfast.ops.layout import tell_format
from snnfast.reference.surrogate import SurrogateLike, resolve

__all__ = ["PSN", "SlidingPSN"]


class PSN(nn.Module):
    """Parallel spiking neurons for sequences of ``num_steps``.

    ::

        h[t] = sum over i of weight[t, i] x[i]
        s[t] = 1 if h[t] >= bias[t] else 0

    All neurons share ``weight`` and ``bias``. A product of matrices and a comparison: no state, no loop over time.
    Without ``order`` a step sees later ones, so the whole sequence must be there.

    Args:
        num_steps: ``T``.
        order: a step sees itself and ``order - 1`` steps before it, other weights count as 0 (the masked PSN); None: it
            sees all.
        surrogate: a name, a :class:`snnfast.surrogate.Surrogate` or a callable; see :mod:`snnfast.surrogate`.

    Attributes:
        weight: the parameter ``[T, T]``, drawn as in :class:`torch.nn.Linear`.
        bias: the parameter ``[T]``, the threshold of each step, at first 1.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for another number of steps.

    Source: Fang et al., Parallel spiking neurons with high efficiency and ability to learn long-term dependencies,
    NeurIPS 2023, whose bias is minus this one.
    """

    def __init__(self, num_steps: int, *, order: int | None = None, surrogate: SurrogateLike = "atan") -> None:
        super().__init__()
        self.num_steps = check.integer("PSN", "num_steps", num_steps)
        self.order = None if order is None else check.integer("PSN", "order", order)
        self.surrogate = resolve(surrogate)
        self.weight = nn.Parameter(torch.empty(num_steps, num_steps))
        self.bias = nn.Parameter(torch.ones(num_steps))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Input current ``[T, ...]`` -> spikes of the same shape and dtype."""
        check.sequence("PSN", x)
        if len(x) != self.num_steps:
            raise ValueError(
                f"PSN: x must have {self.num_steps} steps, of which each has its own weights, got {list(x.shape)}; "
                "SlidingPSN takes any number"
            )
        weight: Tensor = self.weight
        if self.order is not None:
            weight = weight.tril().triu(1 - self.order)
        h = torch.addmm(-self.bias[:, None].to(x), weight.to(x), x.flatten(1))
        return self.surrogate(h).view(x.shape)

    def extra_repr(self) -> str:
        """The layer's settings."""
        order = "" if self.order is None else f", order={self.order}"
        return f"{self.num_steps}{order}, surrogate={self.surrogate}"


class SlidingPSN(nn.Module):
    """Parallel spiking neurons with one causal filter for all steps, for sequences of any length.

    ::

        h[t] = sum over i = 0 ... order - 1 of weight[i] x[t - order + 1 + i]        x is 0 before the first step
        s[t] = 1 if h[t] >= bias else 0

    Args:
        order: taps of the filter: a step sees itself and ``order - 1`` steps before it.
        surrogate: as for :class:`PSN`.

    Attributes:
        weight: the parameter ``[order]``, at first 1 for the step itself, and halved for every step before it.
        bias: the parameter ``[]``, the threshold, at first 1.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range.

    Source: as for :class:`PSN`.
    """

    def __init__(self, order: int, *, surrogate: SurrogateLike = "atan") -> None:
        super().__init__()
        self.order = check.integer("SlidingPSN", "order", order)
        self.surrogate = resolve(surrogate)
        self.weight = nn.Parameter(0.5 ** torch.arange(self.order - 1.0, -1.0, -1.0))
        self.bias = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Input current ``[T, ...]`` -> spikes of the same shape and dtype."""
        check.sequence("SlidingPSN", x)
        weight, x = self.weight.to(x), tell_format(x)
        h = weight[-1] * x - self.bias.to(x)
        for back in range(1, min(self.order, len(x))):
            h = h + F.pad(weight[-1 - back] * x[:-back].flatten(1), (0, 0, back, 0)).view(x.shape)
        return tell_format(self.surrogate(h))

    def extra_repr(self) -> str:
        """The layer's settings."""
        return f"{self.order}, surrogate={self.surrogate}"
