"""Layers of integrators: :class:`IF`, :class:`LIF`, :class:`ParametricLIF` and the readout :class:`LI`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast import check, ops
from snnfast.surrogate import SurrogateLike, resolve

from .state import Stateful

__all__ = ["IF", "LI", "LIF"]


class Spiking(Stateful):
    """What the spiking layers share: threshold, reset and surrogate."""

    def __init__(
        self,
        *,
        v_threshold: float | Tensor,
        v_reset: float | None,
        surrogate: SurrogateLike,
        detach_reset: bool,
        stateful: bool,
        return_v_seq: bool,
    ) -> None:
        super().__init__(stateful=stateful)
        layer = type(self).__name__
        check.rest(layer, v_reset, None)
        if not isinstance(v_threshold, Tensor):
            check.number(layer, "v_threshold", v_threshold)
        self._add_constant("v_threshold", v_threshold)
        self.v_reset = v_reset
        self.surrogate = resolve(surrogate)
        self.detach_reset = detach_reset
        self.return_v_seq = return_v_seq

    def _reset_rule(self, x: Tensor) -> dict[str, Any]:
        return {
            "v_threshold": self._constant("v_threshold", x),
            "v_reset": self.v_reset,
            "surrogate": self.surrogate,
            "detach_reset": self.detach_reset,
            "return_v_seq": self.return_v_seq,
        }

    def extra_repr(self) -> str:
        """The constants, tensors by their shape."""
        return ", ".join(f"{name}={_show(value)}" for name, value in self._shown().items())

    def _shown(self) -> dict[str, Any]:
        shown = {
            name: getattr(self, name)
            for name in ("v_threshold", "v_reset", "surrogate", "detach_reset", "stateful")
        }
        return shown | ({"return_v_seq": True} if self.return_v_seq else {})


def _show(value: Any) -> str:
    return f"Tensor{list(value.shape)}" if isinstance(value, Tensor) else str(value)


class IF(Spiking):
    op = "iaf"

    def __init__(
        self,
        *,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | None = 0.0,
        surrogate: SurrogateLike = "atan",
        detach_reset: bool = False,
        stateful: bool = False,
        return_v_seq: bool = False,
    ) -> None:
        super().__init__(
            v_threshold=v_threshold,
            v_reset=v_reset,
            surrogate=surrogate,
            detach_reset=detach_reset,
            stateful=stateful,
            return_v_seq=return_v_seq,
        )

    def forward(self, x: Tensor) -> Any:
        (v,) = self._load_states(x)
        spikes, v, *v_seq = ops.iaf(x, v, return_v=self.stateful, **self._reset_rule(x))
        self._store_states(v)
        return (spikes, *v_seq) if v_seq else spikes


class LIF(Spiking):
    op = "lif"

    def __init__(
        self,
        tau: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        decay_input: bool = True,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | None = 0.0,
        v_rest: float | None = None,
        surrogate: SurrogateLike = "atan",
        detach_reset: bool = False,
        stateful: bool = False,
        return_v_seq: bool = False,
    ) -> None:
        super().__init__(
            v_threshold=v_threshold,
            v_reset=v_reset,
            surrogate=surrogate,
            detach_reset=detach_reset,
            stateful=stateful,
            return_v_seq=return_v_seq,
        )
        add_decay(self, "", tau, decay)
        check.rest("LIF", v_reset, v_rest)
        self.decay_input = decay_input
        self.v_rest = v_rest

    def forward(self, x: Tensor) -> Any:
        (v,) = self._load_states(x)
        spikes, v, *v_seq = ops.lif(
            x,
            v,
            tau=self._constant("tau", x),
            decay=self._constant("decay", x),
            decay_input=self.decay_input,
            v_rest=self.v_rest,
            return_v=self.stateful,
            **self._reset_rule(x),
        )
        self._store_states(v)
        return (spikes, *v_seq) if v_seq else spikes

    def _shown(self) -> dict[str, Any]:
        leak = {"tau": self.tau} if self.decay is None else {"decay": self.decay}
        rest = {} if self.v_rest is None else {"v_rest": self.v_rest}
        return leak | {"decay_input": self.decay_input} | rest | super()._shown()


class LI(Stateful):
    op = "li"

    def __init__(
        self,
        tau: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        decay_input: bool = True,
        v_rest: float = 0.0,
        stateful: bool = False,
    ) -> None:
        super().__init__(stateful=stateful)
        add_decay(self, "", tau, decay)
        self.decay_input = decay_input
        self.v_rest = check.number("LI", "v_rest", v_rest)
        self.surrogate = None

    def forward(self, x: Tensor) -> Tensor:
        (v,) = self._load_states(x)
        v_seq, v = ops.li(
            x,
            v,
            tau=self._constant("tau", x),
            decay=self._constant("decay", x),
            decay_input=self.decay_input,
            v_rest=self.v_rest,
        )
        self._store_states(v)
        return v_seq

    def extra_repr(self) -> str:
        leak = f"tau={_show(self.tau)}" if self.decay is None else f"decay={_show(self.decay)}"
        return f"{leak}, decay_input={self.decay_input}, v_rest={self.v_rest}, stateful={self.stateful}"


def add_decay(
    layer: Stateful,
    suffix: str,
    tau: float | Tensor | None,
    decay: float | Tensor | None,
) -> None:
    """The constants ``tau`` and ``decay`` of ``layer``, of which one is None, checked like in the ops."""
    if tau is None and decay is None:
        tau = 2.0
    if isinstance(tau, Tensor) or isinstance(decay, Tensor):
        if tau is not None and decay is not None:
            raise ValueError(
                f"{type(layer).__name__}: give tau{suffix} or decay{suffix}, not both"
            )
    else:
        check.decay(type(layer).__name__, f"decay{suffix}", tau, decay, 2.0, torch.empty(0))
    layer._add_constant(f"tau{suffix}", tau)
    layer._add_constant(f"decay{suffix}", decay)
