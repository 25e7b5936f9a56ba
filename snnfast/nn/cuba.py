"""The layers :class:`CubaLIF`, LIF neurons with a synaptic current, and :class:`CubaLI`, a readout with one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import Unpack

from snnfast import check, ops

from .spiking import Firing, Spiking, add_decay, leak, learned_tau, show, time_constant
from .state import Stateful

__all__ = ["CubaLI", "CubaLIF"]


class CubaLIF(Spiking):
    """LIF neurons driven by a synaptic current that decays exponentially.

    For every neuron and ``t = 0 ... T-1``::

        i[t] = decay_syn i[t-1] + x[t]
        h[t] = v_rest + decay (v[t-1] - v_rest) + gain i[t]

    then spike and reset as in :class:`snnfast.nn.LIF` (Gerstner et al., Neuronal Dynamics, section
    1.3; NIR's ``CubaLIF``), by :func:`snnfast.ops.cuba`.

    Args:
        tau: membrane time constant in steps, at least 1; 2.0 if neither it nor ``decay`` is given.
        tau_syn: synaptic time constant in steps, at least 1; 2.0 likewise.
        decay: ``1 - 1/tau``, in [0, 1], instead of ``tau``.
        decay_syn: ``1 - 1/tau_syn`` instead of ``tau_syn``. All four may be tensors that broadcast
            to ``x.shape[1:]``: kept as buffers, or learned if they are an ``nn.Parameter``.
        learnable: learn both decays as ``1 - sigmoid(w)`` and ``1 - sigmoid(w_syn)``, starting from
            ``tau`` and ``tau_syn``, which must be numbers above 1.
        channels: with ``learnable``, learn one of each decay for every channel of ``x`` ``[T, B, C, ...]``; None
            learns one for the layer.
        decay_input: scale the current by ``1/tau``.
        v_rest: value to which the membrane decays; ``v_reset``, or 0 with soft reset, if None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "cuba"
    states = ("v", "i")
    constants = (*Spiking.constants, "v_rest", "decay_input")
    i: Tensor | None
    w: nn.Parameter
    w_syn: nn.Parameter

    def __init__(
        self,
        tau: float | Tensor | None = None,
        tau_syn: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        decay_syn: float | Tensor | None = None,
        learnable: bool = False,
        channels: int | None = None,
        decay_input: bool = True,
        v_rest: float | Tensor | None = None,
        **firing: Unpack[Firing],
    ) -> None:
        super().__init__(**firing)
        self._add_parameter("v_rest", v_rest)
        self.learnable = check.flag(type(self).__name__, "learnable", learnable)
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)
        if learnable:
            if decay is not None or decay_syn is not None:
                raise ValueError("CubaLIF: learnable=True starts from tau and tau_syn, not decay")
            self.w = learned_tau("CubaLIF", "tau", 2.0 if tau is None else tau, channels)
            self.w_syn = learned_tau(
                "CubaLIF", "tau_syn", 2.0 if tau_syn is None else tau_syn, channels
            )
        else:
            if channels is not None:
                raise ValueError("CubaLIF: channels needs learnable=True")
            add_decay(self, "", tau, decay)
            add_decay(self, "_syn", tau_syn, decay_syn)

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        arguments = super()._arguments(x)
        if self.learnable:
            arguments["tau"] = time_constant(self, "w", x)
            arguments["tau_syn"] = time_constant(self, "w_syn", x)
        return arguments

    def _shown(self) -> dict[str, Any]:
        if self.learnable:
            return {"w": self.w, "w_syn": self.w_syn} | super()._shown()
        return leak(self, "") | leak(self, "_syn") | super()._shown()


class CubaLI(Stateful):
    """Leaky integrators of a synaptic current that never fire, a readout: the membrane after every step.

    ``i[t] = decay_syn i[t-1] + x[t]``, ``v[t] = v_rest + decay (v[t-1] - v_rest) + gain i[t]``, with the arguments of
    :class:`CubaLIF` (NIR's ``CubaLI``); by :func:`snnfast.ops.cubali`.
    """

    op = "cubali"
    states = ("v", "i")
    constants = ("v_rest", "decay_input")
    surrogate = None
    i: Tensor | None

    def __init__(
        self,
        tau: float | Tensor | None = None,
        tau_syn: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        decay_syn: float | Tensor | None = None,
        decay_input: bool = True,
        v_rest: float | Tensor = 0.0,
        stateful: bool = False,
    ) -> None:
        super().__init__(stateful=stateful)
        add_decay(self, "", tau, decay)
        add_decay(self, "_syn", tau_syn, decay_syn)
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)
        if not isinstance(v_rest, Tensor):
            check.number("CubaLI", "v_rest", v_rest)
        self._add_constant("v_rest", v_rest)

    def forward(self, x: Tensor) -> Tensor:
        """Synaptic input ``[T, B, ...]`` -> membrane ``[T, B, ...]``, at least float32."""
        v_seq, *states = ops.cubali(x, *self._load_states(x), **self._arguments(x))
        self._store_states(*states)
        return v_seq

    def extra_repr(self) -> str:
        """The constants; tensors by their shape."""
        stateful = {"stateful": True} if self.stateful else {}
        own = leak(self, "") | leak(self, "_syn")
        return show(own | {"decay_input": self.decay_input, "v_rest": self.v_rest} | stateful)
