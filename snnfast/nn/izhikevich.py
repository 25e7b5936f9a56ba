"""The layer :class:`Izhikevich`: Izhikevich's neurons."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from snnfast import check

from .spiking import Firing, Spiking, add_decay, leak

__all__ = ["Izhikevich"]


class Izhikevich(Spiking):
    """Izhikevich's neurons: a quadratic membrane with a recovery variable.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v[t-1] + 1/tau a0 (v[t-1] - v_rest) (v[t-1] - v_c) + gain (x[t] - w[t-1])
        w[t] = decay_w w[t-1] + 1/tau_w a (h[t] - v_rest) + b s[t]

    then spike and reset as in :class:`snnfast.nn.LIF`, by :func:`snnfast.ops.izhikevich`, which names the source.

    Args:
        tau: membrane time constant in steps, at least 1; 2.0 if neither it nor ``decay`` is given.
        decay: ``1 - 1/tau``, in [0, 1], instead of ``tau``. These and the other parameters may be tensors that
            broadcast to ``x.shape[1:]``: kept as buffers, or learned if they are an ``nn.Parameter``.
        a0: curvature, at least 0.
        v_c: the critical voltage; above it the membrane grows until the neuron fires.
        tau_w: time constant of the recovery variable in steps, at least 1; 10.0 if neither it nor ``decay_w`` is given.
        decay_w: ``1 - 1/tau_w`` instead of ``tau_w``.
        a: strength with which the membrane drives ``w``.
        b: increase of ``w`` by a spike.
        decay_input: scale the input by ``1/tau``.
        v_rest: the resting potential; ``v_reset``, or 0 with soft reset, if None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "izhikevich"
    states = ("v", "w")
    constants = (*Spiking.constants, "a0", "v_c", "a", "b", "v_rest", "decay_input")
    w: Tensor | None

    def __init__(
        self,
        tau: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        a0: float | Tensor = 1.0,
        v_c: float | Tensor = 0.8,
        tau_w: float | Tensor | None = None,
        decay_w: float | Tensor | None = None,
        a: float | Tensor = 0.1,
        b: float | Tensor = 0.1,
        decay_input: bool = True,
        v_rest: float | Tensor | None = None,
        **firing: Unpack[Firing],
    ) -> None:
        super().__init__(**firing)
        add_decay(self, "", tau, decay)
        self._add_parameter("a0", a0, check.at_least_zero)
        self._add_parameter("v_c", v_c)
        add_decay(self, "_w", tau_w, decay_w, default=10.0)
        self._add_parameter("a", a)
        self._add_parameter("b", b)
        self._add_parameter("v_rest", v_rest)
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)

    def _shown(self) -> dict[str, Any]:
        own = {"a0": self.a0, "v_c": self.v_c, "a": self.a, "b": self.b}
        return leak(self, "") | own | leak(self, "_w") | super()._shown()
