"""Layers of integrators: :class:`IF`, :class:`LIF`, :class:`ParametricLIF`, readout :class:`LI`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from snnfast import check, ops

from .spiking import (
    Firing,
    Spiking,
    add_decay,
    leak,
    learned_tau,
    one_or_each,
    per_channel,
    show,
    time_constant,
)
from .state import Stateful

__all__ = ["IF", "LI", "LIF", "ParametricLIF"]


class IF(Spiking):
    """Integrate-and-fire neurons, without leak: ``h[t] = v[t-1] + x[t]``.

    Spikes where ``h >= v_threshold``, then reset; :func:`snnfast.ops.iaf` has the whole equation.

    Args:
        v_threshold: threshold.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "iaf"

    def __init__(self, **firing: Unpack[Firing]) -> None:
        super().__init__(**firing)


class LIF(Spiking):
    """Leaky integrate-and-fire neurons.

    For every neuron and ``t = 0 ... T-1``::

        h[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset a number)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)

    with ``decay = 1 - 1/tau`` and ``gain = 1/tau`` if ``decay_input`` else 1 (Gerstner et al.,
    Neuronal Dynamics, section 1.3), by :func:`snnfast.ops.lif`.

    Args:
        tau: membrane time constant in steps, at least 1; 2.0 if neither it nor ``decay`` is given.
        decay: factor of the membrane in a step, in [0, 1], instead of ``tau``. Both may
            be tensors that broadcast to ``x.shape[1:]`` (one per channel: ``[C, 1, 1]``): kept as
            buffers, or learned if they are an ``nn.Parameter``.
        decay_input: scale the input by ``1/tau``.
        v_rest: value to which the membrane decays; ``v_reset``, or 0 with soft reset, if None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.

    Example::

        net = nn.Sequential(Time(nn.Linear(64, 100)), LIF(tau=2.0, decay_input=False))
        spikes = net(torch.rand(25, 8, 64))    # [T, B, features] -> [25, 8, 100], zeros and ones
    """

    op = "lif"
    constants = (*Spiking.constants, "v_rest", "decay_input")

    def __init__(
        self,
        tau: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        decay_input: bool = True,
        v_rest: float | Tensor | None = None,
        **firing: Unpack[Firing],
    ) -> None:
        super().__init__(**firing)
        self._add_parameter("v_rest", v_rest)
        add_decay(self, "", tau, decay)
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)

    def _shown(self) -> dict[str, Any]:
        return leak(self, "") | super()._shown()


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
            firing["v_threshold"] = nn.Parameter(one_or_each("ParametricLIF", number, channels))
        super().__init__(**firing)
        self._add_parameter("v_rest", v_rest)
        self.w = learned_tau("ParametricLIF", "init_tau", init_tau, channels)
        self.learnable_threshold = check.flag(
            type(self).__name__, "learnable_threshold", learnable_threshold
        )
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)

    @property
    def tau(self) -> Tensor:
        """The time constants now, in steps, ``[1]`` or ``[C]``."""
        return 1 / torch.sigmoid(self.w)

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        arguments = super()._arguments(x)
        arguments["tau"] = time_constant(self, "w", x)
        if self.learnable_threshold:
            threshold = arguments["v_threshold"]
            arguments["v_threshold"] = per_channel(self, "v_threshold", threshold, x)
        return arguments

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Takes SpikingJelly's ``w``, too, which has no dimension."""
        w = state_dict.get(f"{prefix}w")
        if isinstance(w, Tensor) and w.dim() == 0:
            state_dict[f"{prefix}w"] = w.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _shown(self) -> dict[str, Any]:
        return {"w": self.w} | super()._shown()


class LI(Stateful):
    """Leaky integrators that never fire, a readout: the membrane after every step.

    ``v[t] = v_rest + decay (v[t-1] - v_rest) + gain x[t]``, with the arguments of :class:`LIF`; by
    :func:`snnfast.ops.li`.
    """

    op = "li"
    surrogate = None
    constants = ("v_rest", "decay_input")

    def __init__(
        self,
        tau: float | Tensor | None = None,
        *,
        decay: float | Tensor | None = None,
        decay_input: bool = True,
        v_rest: float | Tensor = 0.0,
        stateful: bool = False,
    ) -> None:
        super().__init__(stateful=stateful)
        add_decay(self, "", tau, decay)
        self.decay_input = check.flag(type(self).__name__, "decay_input", decay_input)
        if not isinstance(v_rest, Tensor):
            check.number("LI", "v_rest", v_rest)
        self._add_constant("v_rest", v_rest)

    def forward(self, x: Tensor) -> Tensor:
        """Input current ``[T, B, ...]`` -> membrane ``[T, B, ...]``, at least float32."""
        (v,) = self._load_states(x)
        v_seq, v = ops.li(x, v, **self._arguments(x))
        self._store_states(v)
        return v_seq

    def extra_repr(self) -> str:
        """The constants; tensors by their shape."""
        stateful = {"stateful": True} if self.stateful else {}
        return show(
            leak(self, "") | {"decay_input": self.decay_input, "v_rest": self.v_rest} | stateful
        )
