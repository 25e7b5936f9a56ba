"""What the layers of integrators share: threshold, reset, surrogate; fixed and learned decays."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.surrogate import SurrogateLike, resolve

from .state import Stateful

__all__ = ["Spiking"]


class Spiking(Stateful):
    """What the spiking layers share: threshold, reset and surrogate."""

    def __init__(
        self,
        *,
        v_threshold: float | Tensor,
        v_reset: float | None,
        v_rest: float | None = None,
        surrogate: SurrogateLike,
        detach_reset: bool,
        stateful: bool,
        return_v_seq: bool,
    ) -> None:
        super().__init__(stateful=stateful)
        layer = type(self).__name__
        check.rest(layer, v_reset, v_rest)
        if not isinstance(v_threshold, Tensor):
            check.number(layer, "v_threshold", v_threshold)
        self._add_constant("v_threshold", v_threshold)
        self.v_reset = v_reset
        self.v_rest = v_rest
        self.surrogate = resolve(surrogate)
        self.detach_reset = bool(detach_reset)
        self.return_v_seq = bool(return_v_seq)

    def _firing(self, x: Tensor) -> dict[str, Any]:
        return {
            "v_threshold": self._constant("v_threshold", x),
            "v_reset": self.v_reset,
            "surrogate": self.surrogate,
            "detach_reset": self.detach_reset,
            "return_v_seq": self.return_v_seq,
        }

    def _finish(self, spikes: Tensor, *states_and_v_seq: Tensor | None) -> Any:
        n = len(self.states)
        self._store_states(*states_and_v_seq[:n])
        return (spikes, *states_and_v_seq[n:]) if self.return_v_seq else spikes

    def extra_repr(self) -> str:
        """The constants; tensors by their shape."""
        return show(self._shown())

    def _shown(self) -> dict[str, Any]:
        names = ["v_threshold", "v_reset", *["v_rest"] * (self.v_rest is not None), "surrogate"]
        flags = {n: True for n in ("detach_reset", "stateful", "return_v_seq") if getattr(self, n)}
        return {name: getattr(self, name) for name in names} | flags


def add_decay(
    layer: Stateful, suffix: str, tau: float | Tensor | None, decay: float | Tensor | None
) -> None:
    """Gives ``layer`` the constants ``tau`` and ``decay``, at most one not None."""
    name = type(layer).__name__
    if isinstance(tau, Tensor) or isinstance(decay, Tensor):
        if tau is not None and decay is not None:
            raise ValueError(f"{name}: give tau{suffix} or decay{suffix}, not both")
    else:
        check.decay(name, f"decay{suffix}", tau, decay, 2.0, torch.empty(0))
    layer._add_constant(f"tau{suffix}", 2.0 if tau is None and decay is None else tau)
    layer._add_constant(f"decay{suffix}", decay)


def leak(layer: Stateful, suffix: str) -> dict[str, Any]:
    """``tau`` or ``decay`` of ``layer``, whichever it was given, by name."""
    name = f"tau{suffix}" if getattr(layer, f"decay{suffix}") is None else f"decay{suffix}"
    return {name: getattr(layer, name)}


def show(values: dict[str, Any]) -> str:
    """The values for ``extra_repr``; tensors by their shape."""
    return ", ".join(
        f"{name}=[{', '.join(map(str, value.shape))}]"
        if isinstance(value, Tensor) and value.numel() != 1
        else f"{name}={value.item():g}"
        if isinstance(value, Tensor)
        else f"{name}={value}"
        for name, value in values.items()
    )


def learned_tau(layer: str, name: str, tau: object, channels: int | None) -> nn.Parameter:
    """The parameter ``w`` with ``1 / sigmoid(w) = tau``."""
    number = check.number(layer, name, tau)
    if number <= 1:
        raise ValueError(f"{layer}: {name} must be above 1 step to be learned, got {number}")
    return nn.Parameter(one_or_each(-math.log(number - 1), channels))


def learned_decay(layer: Stateful, name: str, x: Tensor) -> Tensor:
    """``1 - sigmoid(w)`` as the op takes it for ``x``."""
    return per_channel(layer, name, torch.sigmoid(-layer._constant(name, x)), x)


def per_channel(layer: Stateful, name: str, value: Tensor, x: Tensor) -> Tensor:
    """A parameter ``[1]`` or ``[C]``, shaped to broadcast over ``x`` ``[T, B, C, ...]``."""
    if value.numel() == 1:
        return value.view(())
    if x.dim() < 3 or x.shape[2] != value.shape[0]:
        raise ValueError(
            f"{type(layer).__name__}: {name} has {value.shape[0]} channels, so x must have shape "
            f"[T, B, {value.shape[0]}, ...], got {list(x.shape)}"
        )
    return value.view(-1, *(1,) * (x.dim() - 3))


def one_or_each(value: float, channels: int | None) -> Tensor:
    """``value`` for the layer, ``[1]``, or for each channel, ``[C]``."""
    # FSDP refuses parameters without dimensions.
    return torch.full((1 if channels is None else channels,), value)
