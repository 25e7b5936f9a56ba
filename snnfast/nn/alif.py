"""The layer :class:`ALIF`: leaky integrate-and-fire neurons with an adaptive threshold."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from snnfast import check

from .spiking import Firing, Spiking, add_decay, leak

__all__ = ["ALIF"]


class ALIF(Spiking):
    """LIF neurons with an adaptive threshold: each spike raises it, and it decays back.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]
        s[t] = 1 if h[t] >= v_threshold + beta a[t-1] else 0
        a[t] = decay_adapt a[t-1] + s[t]

    then the reset of :class:`snnfast.nn.LIF`, a soft one by ``v_threshold`` (Bellec et al. 2020), by
    :func:`snnfast.ops.alif`.

    Args:
        tau: membrane time constant in steps, at least 1; 2.0 if neither it nor ``decay`` is given.
        decay: ``1 - 1/tau``, in [0, 1], instead of ``tau``. These and the other parameters may be tensors that
            broadcast to ``x.shape[1:]``: kept as buffers, or learned if they are an ``nn.Parameter``.
        beta: factor of the adaptation in the threshold.
        tau_adapt: time constant of the adaptation in steps, at least 1; 100.0 if neither it nor ``decay_adapt`` is
            given.
        decay_adapt: ``1 - 1/tau_adapt`` instead of ``tau_adapt``.
        decay_input: scale the input by ``1/tau``.
        v_rest: value to which the membrane decays; ``v_reset``, or 0 with soft reset, if None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "alif"
    states = ("v", "a")
    constants = (*Spiking.constants, "beta", "v_rest", "decay_input")
    a: Tensor | None

    def __init__(
        self,
        tau: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        beta: float | Tensor = 0.2,
        tau_adapt: float | Tensor | None = None,
        decay_adapt: float | Tensor | None = None,
        decay_input: bool = True,
        v_rest: float | Tensor | None = None,
        **firing: Unpack[Firing],
    ) -> None:
        super().__init__(**firing)
        add_decay(self, "", tau, decay)
        add_decay(self, "_adapt", tau_adapt, decay_adapt, default=100.0)
        self._add_parameter("beta", beta)
        self._add_parameter("v_rest", v_rest)
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)

    def _shown(self) -> dict[str, Any]:
        own = leak(self, "") | {"beta": self.beta} | leak(self, "_adapt")
        return own | super()._shown()
