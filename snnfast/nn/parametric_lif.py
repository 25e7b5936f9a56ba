"""The layer :class:`ParametricLIF`: leaky integrate-and-fire neurons that learn their time constant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from snnfast import check

from .spiking import Firing, Spiking, filled, learned_tau, per_channel, time_constant

__all__ = ["ParametricLIF"]


class ParametricLIF(Spiking):
    """Leaky integrate-and-fire neurons that learn their time constant.

    :class:`LIF` with ``decay = 1 - sigmoid(w)``, so that ``tau = 1 / sigmoid(w)`` stays above 1 for
    any ``w`` (Fang et al. 2021, "Incorporating learnable membrane time constant").

    Args:
        init_tau: the time constant to start from, in steps, above 1.
        channels: how many time constants to learn, one for each of the ``C`` channels of ``x``
            ``[T, B, C, ...]``; None learns a single one for the layer.
        learnable_threshold: learn ``v_threshold`` too, with the shape of ``w``, from the number given.
        decay_input: scale the input by ``1/tau``.
        v_rest: value to which the membrane decays; ``v_reset``, or 0 with soft reset, if None.

    Attributes:
        w: the parameter, ``[1]`` or ``[C]``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "lif"
    constants = (*Spiking.constants, "v_rest", "decay_input")
    w: nn.Parameter

    def __init__(
        self,
        init_tau: float = 2.0,
        *,
        channels: int | None = None,
        learnable_threshold: bool = False,
        decay_input: bool = True,
        v_rest: float | Tensor | None = None,
        **firing: Unpack[Firing],
    ) -> None:
        if learnable_threshold:
            number = check.number("ParametricLIF", "v_threshold", firing.get("v_threshold", 1.0))
            firing["v_threshold"] = nn.Parameter(filled("ParametricLIF", number, channels))
        super().__init__(**firing)
        self._add_parameter("v_rest", v_rest)
        self.w = learned_tau("ParametricLIF", "init_tau", init_tau, channels)
        self.learnable_threshold = check.flag(type(self).__name__, "learnable_threshold", learnable_threshold)
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)

    @property
    def tau(self) -> Tensor:
        """The current time constants in steps, ``[1]`` or ``[C]``."""
        return 1 / torch.sigmoid(self.w)

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        arguments = super()._arguments(x)
        arguments["tau"] = time_constant(self, "w", x)
        if self.learnable_threshold:
            threshold = arguments["v_threshold"]
            arguments["v_threshold"] = per_channel(self, "v_threshold", threshold, x)
        return arguments

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load SpikingJelly's ``w``, too, which has no dimension."""
        w = state_dict.get(f"{prefix}w")
        if isinstance(w, Tensor) and w.dim() == 0:
            state_dict[f"{prefix}w"] = w.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _shown(self) -> dict[str, Any]:
        return {"w": self.w} | super()._shown()
