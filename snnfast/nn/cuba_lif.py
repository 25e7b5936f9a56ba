"""The layer :class:`CubaLIF`: LIF neurons with a synaptic current, whose time constants may be learned."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import Unpack

from snnfast import check

from .from_op import FromOp
from .spiking import Leaky, learned_tau, time_constant

__all__ = ["CubaLIF"]


class CubaLIF(FromOp):
    """With ``learnable`` both decays are learned as ``1 - sigmoid(w)`` and ``1 - sigmoid(w_syn)``.

    Args:
        learnable: learn both decays, starting from ``tau`` and ``tau_syn``, which must be numbers above 1.
        channels: with ``learnable``, learn one of each decay for every channel of ``x`` ``[T, B, C, ...]``; None
            learns one for the layer.
    """

    op = "cuba"
    i: Tensor | None
    w: nn.Parameter
    w_syn: nn.Parameter

    def __init__(
        self,
        tau: float | Tensor | None = None,
        tau_syn: float | Tensor | None = None,
        *,
        decay_syn: float | Tensor | None = None,
        learnable: bool = False,
        channels: int | None = None,
        **leaky: Unpack[Leaky],
    ) -> None:
        self.learnable = check.flag(type(self).__name__, "learnable", learnable)
        learned = {}
        if learnable:
            if leaky.get("decay") is not None or decay_syn is not None:
                raise ValueError("CubaLIF: learnable=True starts from tau and tau_syn, not decay")
            for name, suffix, start in (("tau", "", tau), ("tau_syn", "_syn", tau_syn)):
                learned[f"w{suffix}"] = learned_tau("CubaLIF", name, start or 2.0, channels)
        elif channels is not None:
            raise ValueError("CubaLIF: channels needs learnable=True")
        super().__init__(tau, tau_syn, decay_syn=decay_syn, **leaky)
        for name, w in learned.items():
            self.register_parameter(name, w)

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        arguments = super()._arguments(x)
        if self.learnable:
            arguments["tau"] = time_constant(self, "w", x)
            arguments["tau_syn"] = time_constant(self, "w_syn", x)
        return arguments

    def _op_shown(self) -> dict[str, Any]:
        return {"w": self.w, "w_syn": self.w_syn} if self.learnable else super()._op_shown()
