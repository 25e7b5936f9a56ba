"""Layers with recurrent connections: :class:`Recurrent` around any layer of neurons, and :class:`RLIF`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check

from .adlif import AdLIF
from .delaying import FeedingBack
from .neurons import LIF
from .own_neuron import OwnLayer
from .spiking import Spiking, arguments, show

__all__ = ["RLIF", "Recurrent"]


class Recurrent(FeedingBack):
    """Neurons with recurrent connections within the layer: their input is ``x[t] + weight s[t-1]``.

    All steps run in one call of :func:`snnfast.ops.recurrent`. The state, ``stateful`` and ``return_v_seq`` are those
    of ``neuron``; the last spikes are part of the state.

    Args:
        neuron: the neurons, a spiking layer of this package such as :class:`snnfast.nn.LIF`; call this layer
            instead of ``neuron`` itself.
        features: neurons of a sample, the last dimension of ``x`` ``[T, ..., features]``.
        weight: initial weights ``[features, features]``, from neuron ``j`` to neuron ``i`` at ``[i, j]``; orthogonal
            (Saxe et al. 2014) if None.
        self_connections: whether a neuron receives its own spikes; without them the diagonal of ``weight`` counts
            as 0, and is 0 unless you give ``weight`` as an ``nn.Parameter``.
        delay: axonal delay of each sending neuron in steps, in addition to the one step, ``[features]``; kept as
            a buffer. With ``stateful`` every call reads the longest one. Under ``torch.compile``, which cannot, it must
            not exceed that of the last call without ``torch.compile``.
        max_delay: instead of ``delay``: learn a delay for each neuron, from 0 to ``max_delay`` steps (Queant et al.
            2025, DelRec, without its widening).

    Attributes:
        weight: the parameter ``[features, features]``.
        d: with ``max_delay`` the parameter ``[features]``, drawn evenly from 0 to ``max_delay``; else None. Used
            clamped to this range; its gradient passes the clamp, as in :class:`snnfast.nn.Delay`.
        past: the spikes that have not arrived yet, ``[P, ..., features]``, the latest last; None at rest.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "recurrent"
    neuron: Spiking
    delay: Tensor | None
    # Steps for which spikes may be in transit with a fixed delay; None if unknown.
    _steps: int | None = None

    def __init__(
        self,
        neuron: Spiking,
        features: int,
        *,
        weight: Tensor | None = None,
        self_connections: bool = True,
        delay: Tensor | None = None,
        max_delay: float = 0.0,
    ) -> None:
        layer = type(self).__name__
        if not isinstance(neuron, Spiking):
            raise TypeError(
                f"{layer}: neuron must be a layer of neurons that fire, such as LIF(), got {check.kind(neuron)}"
            )
        if neuron.return_v_seq and type(neuron).forward not in (Spiking.forward, OwnLayer.forward):
            raise ValueError(
                f"{layer}: neuron must have return_v_seq=False: its membranes are not those of its op, which runs here"
            )
        features = check.integer(layer, "features", features)
        if features > 1 and isinstance(neuron, AdLIF) and neuron.channels is None:
            check.warn(
                f"{layer}: AdLIF() learns one tau, tau_w, a and b for all {features} neurons; AdLIF({features}) learns "
                "them for each neuron, as the papers do; AdLIF(1) is one for all"
            )
        tensors = {"weight": (weight, (features, features)), "delay": (delay, (features,))}
        for name, (value, shape) in tensors.items():
            if value is None:
                continue
            check.tensor(layer, name, value)
            if value.shape != shape:
                raise ValueError(f"{layer}: {name} must have shape {list(shape)}, got {list(value.shape)}")
        if delay is not None:
            check.finite(layer, "delay", delay)
        max_delay = check.at_least_zero(layer, "max_delay", max_delay)
        if delay is not None and max_delay:
            raise ValueError(f"{layer}: give delay or max_delay, not both")
        super().__init__()
        self.neuron = neuron
        self.features = features
        self.self_connections = check.flag(layer, "self_connections", self_connections)
        if weight is None:
            dtype = check.state_dtype(torch.get_default_dtype())
            weight = nn.init.orthogonal_(torch.empty(features, features, dtype=dtype))
        if not isinstance(weight, nn.Parameter):
            weight = weight.detach().to(check.state_dtype(weight.dtype), copy=True)
            weight = nn.Parameter(weight if self.self_connections else weight.fill_diagonal_(0.0))
        self.weight = weight
        self._add_constant("delay", None if delay is None else delay.detach())
        self.max_delay = max_delay
        self.d = nn.Parameter(torch.rand(features) * max_delay) if max_delay else None
        self._check_delay()

    def forward(self, x: Tensor) -> Any:
        """Input current ``[T, ..., features]`` -> spikes of the same shape and dtype.

        With ``return_v_seq`` of the neurons ``(spikes, v_seq)``.
        """
        neuron, layer = self.neuron, type(self).__name__
        check.sequence(layer, x)
        if x.dim() < 2 or x.shape[-1] != self.features:
            raise ValueError(f"{layer}: x must have shape [T, ..., {self.features}], got {list(x.shape)}")
        (past,) = self._load_states(x)
        weight, delay = self.connected(self._constant("weight", x)), self.delays
        if isinstance(delay, Tensor):  # the op refuses other types
            delay = delay.to(weight.dtype)
        if past is not None:
            past = past.to(x.dtype)
        spikes, *after = neuron.recurrent(x, weight, past, delay=delay, **neuron._op_arguments(x))
        if self.stateful:
            self._keep_past(past, spikes, self._longest())
        return neuron._finish(spikes, *after)

    def connected(self, weight: Tensor) -> Tensor:
        """Return ``weight``, with a diagonal of 0 if there are no self-connections."""
        if self.self_connections:
            return weight
        return torch.diagonal_scatter(weight, weight.new_zeros(self.features))

    @property
    def delays(self) -> Tensor | None:
        """The current delays in steps, ``[features]``; None without delays."""
        layer = type(self).__name__
        if self.d is None:
            if self.max_delay:
                raise ValueError(f"{layer}: max_delay must be given when the layer is made, which draws d")
            return self.delay
        if self.delay is not None:
            raise ValueError(f"{layer}: give delay or max_delay, not both")
        return self._learned_delays(self.d)

    def _longest(self) -> int:
        if self.d is not None:
            return math.ceil(self.max_delay) + 2
        if self.delay is None:
            return 1
        self._check_delay()
        if self._steps is None:
            raise RuntimeError(
                f"{type(self).__name__}: with stateful=True the longest delay decides how many spikes are kept, but "
                "delay has no values here; make the layer where it has, outside of FakeTensorMode and the device meta"
            )
        # An op, so that a compiled layer checks its delays in every call; an exported program has constant delays.
        if not (check.reads_values(True, self.delay.device) or torch.compiler.is_exporting()):
            torch._assert_async(
                self.delay.amax() <= self._steps - 2,
                f"{type(self).__name__}: delay is longer than it was; call it once without torch.compile",
            )
        return self._steps

    def _check_delay(self) -> None:
        if self.delay is not None and check.reads_values(True, self.delay.device):
            self._steps = math.ceil(max(self.delay.max().item(), 0.0)) + 2

    def extra_repr(self) -> str:
        """Return the layer's own settings; tensors by their shape."""
        shown: dict[str, Any] = {"features": self.features}
        shown |= {} if self.self_connections else {"self_connections": False}
        shown |= {"max_delay": self.max_delay} if self.max_delay else {}
        return show(shown | ({} if self.delay is None else {"delay": self.delay}))


class RLIF(Recurrent):
    """Leaky integrate-and-fire neurons with recurrent connections: :class:`Recurrent` with :class:`snnfast.nn.LIF`.

    Args:
        features: neurons of a sample, the last dimension of ``x`` ``[T, ..., features]``.
        tau: membrane time constant in steps, as for :class:`snnfast.nn.LIF`.
        weight, self_connections, delay, max_delay: as for :class:`Recurrent`.
        lif: the other arguments of :class:`snnfast.nn.LIF`.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    def __init__(
        self,
        features: int,
        tau: float | Tensor | None = None,
        *,
        weight: Tensor | None = None,
        self_connections: bool = True,
        delay: Tensor | None = None,
        max_delay: float = 0.0,
        **lif: Any,
    ) -> None:
        check.refuse_unknown(type(self).__name__, arguments(RLIF.__init__, LIF), lif)
        super().__init__(
            LIF(tau, **lif),
            features,
            weight=weight,
            self_connections=self_connections,
            delay=delay,
            max_delay=max_delay,
        )
