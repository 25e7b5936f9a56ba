"""The layer :class:`EIF`: exponential integrate-and-fire neurons."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from snnfast import check

from .spiking import Firing, Spiking, add_decay, leak

__all__ = ["EIF"]


class EIF(Spiking):
    """Exponential integrate-and-fire neurons.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v[t-1] + 1/tau (delta_t exp((v[t-1] - theta_rh) / delta_t) - (v[t-1] - v_rest)) + gain x[t]

    then spike and reset as in :class:`snnfast.nn.LIF`, by :func:`snnfast.ops.eif`, which names the source.

    Args:
        tau: membrane time constant in steps, at least 1; 2.0 if neither it nor ``decay`` is given.
        decay: ``1 - 1/tau``, in [0, 1], instead of ``tau``. These and the other parameters may be tensors that
            broadcast to ``x.shape[1:]``: kept as buffers, or learned if they are an ``nn.Parameter``.
        delta_t: sharpness of the upstroke, not 0.
        theta_rh: rheobase threshold, at which the upstroke begins.
        decay_input: scale the input by ``1/tau``.
        v_rest: the resting potential; ``v_reset``, or 0 with soft reset, if None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "eif"
    constants = (*Spiking.constants, "delta_t", "theta_rh", "v_rest", "decay_input")

    def __init__(
        self,
        tau: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        delta_t: float | Tensor = 1.0,
        theta_rh: float | Tensor = 0.8,
        decay_input: bool = True,
        v_rest: float | Tensor | None = None,
        **firing: Unpack[Firing],
    ) -> None:
        super().__init__(**firing)
        add_decay(self, "", tau, decay)
        self._add_parameter("delta_t", delta_t, check.not_zero)
        self._add_parameter("theta_rh", theta_rh)
        self._add_parameter("v_rest", v_rest)
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)

    def _shown(self) -> dict[str, Any]:
        own = leak(self, "") | {"delta_t": self.delta_t, "theta_rh": self.theta_rh}
        return own | super()._shown()
