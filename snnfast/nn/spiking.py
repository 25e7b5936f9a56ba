"""Base of the integrator layers: threshold, reset, surrogate; fixed and learned decays."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.reference.neuron_arguments import NEURONS, entries, sections
from snnfast.reference.surrogate import SurrogateLike, resolve

from .state import Stateful

__all__ = ["Firing", "Leaky", "Spiking"]

_NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
# Calls and steps in training, without a change, after which a layer counts as silent or saturated.
_CALLS, _STEPS = 4, 100
# Layers that fire, or pause, less often teach nothing: a share of the steps, and spikes a neuron and call.
_FEW, _FEW_SPIKES = 5e-3, 0.25
# A tau that is an integer from here on may be the size that layers of other libraries take.
_LIKE_A_SIZE = 64


class Firing(TypedDict, total=False):
    """The keyword arguments of every spiking layer, documented in :class:`Spiking`."""

    v_threshold: float | Tensor
    v_reset: float | Tensor | None
    strict: bool
    refractory: int
    max_spikes: int | None
    surrogate: SurrogateLike
    detach_reset: bool
    stateful: bool
    return_v_seq: bool
    v_init: float | Tensor | None


class Leaky(Firing, total=False):
    """Keyword arguments of a layer whose membrane leaks, except its time constant."""

    decay: float | Tensor | None
    decay_input: bool
    v_rest: float | Tensor | None


class Spiking(Stateful):
    """Base of the spiking layers: threshold, reset and surrogate.

    Every parameter of a neuron is a number, a tensor that broadcasts to ``x.shape[1:]`` (kept as a buffer) or an
    ``nn.Parameter`` of such a shape (learned).

    Args:
        v_threshold: threshold; a neuron fires at or above it.
        v_reset: membrane after a spike; None subtracts ``v_threshold`` instead (soft reset).
        strict: spike only if ``h > v_threshold``, not at it, as in snnTorch and Norse.
        refractory: number of steps without spikes after a spike; the membrane keeps its value after the reset.
            This and ``max_spikes`` are for :class:`IF`, :class:`LIF`, :class:`ParametricLIF`, :class:`CubaLIF`,
            :class:`ALIF` and :class:`AdLIF`; :func:`snnfast.ops.lif` has the equation.
        max_spikes: largest number of spikes in a step; None for any number. More than 1 needs a soft reset.
        surrogate: derivative of a spike: a name, a :class:`snnfast.surrogate.Surrogate` or a callable; see
            :mod:`snnfast.surrogate`.
        detach_reset: no gradient through the spike into the reset.
        stateful: keep the states between calls; see :class:`snnfast.nn.state.Stateful`.
        return_v_seq: return ``(spikes, v_seq)`` instead of ``spikes``.
        v_init: membrane of a layer at rest, before the first step; None: where the op starts, at ``v_rest``.
    """

    constants: tuple[str, ...] = ("v_threshold", "v_reset", "strict", "surrogate", "detach_reset", "return_v_seq")

    num_inputs = 1

    # Calls in training so far, their steps, and the activity of the neurons: 0 hardly ever fired, 1 fired at nearly
    # every step; None: the layer is no longer watched.
    watched: tuple[int, int, int] | None = (0, 0, -1)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # help(), editors and the page of a layer show what it takes with **firing, too.
        cls.__signature__ = arguments(cls.__init__, Spiking.__init__)  # type: ignore[attr-defined]
        cls.__doc__ = _completed(cls)

    def __init__(
        self,
        *,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0,
        strict: bool = False,
        refractory: int = 0,
        max_spikes: int | None = 1,
        surrogate: SurrogateLike = "atan",
        detach_reset: bool = False,
        stateful: bool = False,
        return_v_seq: bool = False,
        v_init: float | Tensor | None = None,
        **unknown: Any,
    ) -> None:
        layer = type(self).__name__
        for name in unknown:
            hint = check.suggestion(name, inspect.signature(type(self)).parameters)
            raise TypeError(
                f"{layer}: there is no argument {name!r}; snnfast.nn.like takes other libraries' arguments{hint}"
            )
        self.refractory = refractory
        self.max_spikes = None if max_spikes is None else check.integer(layer, "max_spikes", max_spikes)
        neuron = getattr(self, "neuron", None) or NEURONS.get(self.op)
        can_be_refractory = neuron is None or "refractory" not in neuron.fixed
        if not can_be_refractory and (self.refractory or self.max_spikes != 1):
            raise ValueError(f"{layer}: its neurons have no refractory period and no max_spikes")
        if self.max_spikes != 1 and v_reset is not None:
            raise ValueError(f"{layer}: max_spikes above 1 needs a soft reset, v_reset=None")
        super().__init__(stateful=stateful)
        self.strict = check.flag(layer, "strict", strict)
        self._add_parameter("v_threshold", v_threshold)
        self._add_parameter("v_reset", v_reset)
        self.surrogate = resolve(surrogate)
        self.detach_reset = check.flag(layer, "detach_reset", detach_reset)
        self.return_v_seq = check.flag(layer, "return_v_seq", return_v_seq)
        self._add_parameter("v_init", v_init)

    @property
    def refractory(self) -> int:
        """Refractory period in steps; if it is not 0, the remaining refractory steps are a state of the layer."""
        return self._refractory

    @refractory.setter
    def refractory(self, value: int) -> None:
        self._refractory = check.integer(type(self).__name__, "refractory", value, 0)
        self.states = (*type(self).states, *("r",) * (self._refractory > 0))
        if self._refractory:
            self.__dict__.setdefault("r", None)
        else:
            self.__dict__.pop("r", None)

    def forward(self, x: Tensor) -> Any:
        """Input current ``[T, B, ...]`` -> spikes of the same shape and dtype.

        With ``return_v_seq`` ``(spikes, v_seq)``: also the membrane after every step, ``[T, B, ...]``, float64 for
        float64 ``x``, else float32.
        """
        return self._finish(*self.function(x, **self._op_arguments(x)))

    @property
    def function(self) -> Callable[..., Any]:
        """The op."""
        return getattr(ops, self.op)  # type: ignore[no-any-return]

    @property
    def recurrent(self) -> Callable[..., Any]:
        """The op with recurrent connections."""
        return functools.partial(ops.recurrent, neuron=self.op)

    @property
    def sparse_recurrent(self) -> Callable[..., Any]:
        """The op with sparse recurrent connections."""
        return functools.partial(ops.sparse_recurrent, neuron=self.op)

    def _op_arguments(self, x: Tensor) -> dict[str, Any]:
        """Return all arguments of the op besides ``x``."""
        return dict(zip(self.states, self._load_states(x))) | self._arguments(x)

    def _initial_states(self, x: Tensor) -> tuple[Tensor | None, ...]:
        states = super()._initial_states(x)
        if self.v_init is None:
            return states
        v = check.parameter(type(self).__name__, "v_init", self._constant("v_init", x), x)
        v = v if isinstance(v, Tensor) else x.new_full((), v, dtype=check.state_dtype(x.dtype))
        return v.expand(x.shape[1:]).contiguous(), *states[1:]

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        arguments = super()._arguments(x)
        arguments["return_state"] = self.stateful
        if self.refractory or self.max_spikes != 1:
            arguments |= {"refractory": self.refractory, "max_spikes": self.max_spikes}
        return arguments

    def _finish(self, spikes: Tensor, *states_and_v_seq: Tensor | None) -> Any:
        n = len(self.states)
        self._store_states(*states_and_v_seq[:n])
        self._watch(spikes)
        return (spikes, *states_and_v_seq[n:]) if self.return_v_seq else spikes

    def _watch(self, spikes: Tensor) -> None:
        """Warn once if the neurons fire hardly ever, or nearly always, over the first calls in training.

        A call with a rate between the two ends the check, so a layer that works pays for its first call alone.
        """
        if torch.compiler.is_compiling() or not self.training or self.watched is None:
            return
        x = spikes.detach()
        if not check.reads_values(True, x.device) or torch._C._is_tracing() or x.numel() == 0:
            return
        calls, steps, before = self.watched
        rate = int(x.count_nonzero()) / x.numel()
        value, few = int(rate > 0.5), min(_FEW, _FEW_SPIKES / len(x))
        if few < rate < 1 - few or before not in (-1, value):
            self.watched = None
            return
        calls, steps = calls + 1, steps + len(x)
        self.watched = (calls, steps, value)
        if calls < _CALLS or steps < _STEPS:
            return
        self.watched = None
        gain = "decay_input=False, " if getattr(self, "decay_input", False) else ""
        seen = {0.0: "never fired", 1.0: "fired at every step"}.get(rate, f"fired at {rate:.2g} of all steps")
        threshold = "higher" if value else "lower"
        warnings.warn(
            f"{type(self).__name__}({self.extra_repr()}), x [T, B, {', '.join(map(str, x.shape[2:]))}]: its neurons "
            f"have {seen} in the first {calls} calls of training ({steps} steps), so the layers before it learn little "
            f"or nothing. Ways out: {gain}snnfast.nn.calibrate_(net, x), batch normalisation before it, a {threshold} "
            "v_threshold; see the page 'Nothing fires'",
            stacklevel=4,
        )

    def extra_repr(self) -> str:
        """The constants; tensors by their shape."""
        return show(self._shown())

    def _shown(self) -> dict[str, Any]:
        gain = ["decay_input"] if "decay_input" in self.constants else []
        rest = [] if getattr(self, "v_rest", None) is None else ["v_rest"]
        names = [*gain, "v_threshold", "v_reset", *rest, "surrogate"]
        flags = ("strict", "detach_reset", "stateful", "return_v_seq")
        shown: dict[str, Any] = {name: True for name in flags if getattr(self, name)}
        shown |= {"refractory": self.refractory} if self.refractory else {}
        shown |= {"max_spikes": self.max_spikes} if self.max_spikes != 1 else {}
        shown |= {} if self.v_init is None else {"v_init": self.v_init}
        return {name: getattr(self, name) for name in names} | shown


def arguments(*functions: Callable[..., Any] | inspect.Signature) -> inspect.Signature:
    """Return the named arguments of several functions, those of the first one first."""
    found: dict[str, inspect.Parameter] = {}
    for function in functions:
        signature = function if isinstance(function, inspect.Signature) else inspect.signature(function)
        for name, p in signature.parameters.items():
            if p.kind in _NAMED and name != "self":
                found.setdefault(name, p)
    return inspect.Signature(sorted(found.values(), key=lambda p: p.kind))


def add_decay(
    layer: Stateful, suffix: str, tau: float | Tensor | None, decay: float | Tensor | None, default: float = 2.0
) -> None:
    """Add the constants ``tau`` and ``decay`` to ``layer``, of which the user gives one; numbers set both."""
    name = type(layer).__name__
    if not suffix and isinstance(tau, int) and _LIKE_A_SIZE <= tau < 10**6:
        check.warn(
            f"{name}({tau}): tau is a time constant of {tau} steps, not a number of neurons; a layer takes any "
            f"number of them, [T, B, ...]. If you mean the time constant, write {tau}.0"
        )
    if isinstance(tau, Tensor) or isinstance(decay, Tensor):
        if tau is not None and decay is not None:
            raise ValueError(f"{name}: give tau{suffix} or decay{suffix}, not both")
    else:
        # The last argument is for the shapes of tensors, and there are none.
        check.leak(name, f"decay{suffix}", tau, decay, default, torch.empty(0))
    tau = default if tau is None and decay is None else tau
    taken = f"tau{suffix}" if decay is None else f"decay{suffix}"
    layer.constants += (taken,)
    if tau is not None and not isinstance(tau, Tensor):
        decay = 1 - 1 / tau  # for users to read; the op takes tau
    layer._add_constant(f"tau{suffix}", tau)
    layer._add_constant(f"decay{suffix}", decay)


def leak(layer: Stateful, suffix: str) -> dict[str, Any]:
    """Return the one of ``tau`` and ``decay`` that was passed to ``layer``, by name."""
    decay = f"decay{suffix}"
    name = decay if decay in layer.constants else f"tau{suffix}"
    return {name: getattr(layer, name)}


def show(values: dict[str, Any]) -> str:
    """Format values for ``extra_repr``; a tensor by its shape, or by its only element."""
    return ", ".join(f"{name}={_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if not isinstance(value, Tensor):
        return str(value)
    return f"{value.item() + 0.0:g}" if value.numel() == 1 else str(list(value.shape))  # 0, not -0


def learned_tau(layer: str, name: str, tau: object, channels: int | None) -> nn.Parameter:
    """The parameter ``w`` with ``1 / sigmoid(w) = tau``."""
    number = check.number(layer, name, tau)
    if number <= 1:
        raise ValueError(f"{layer}: {name} must be above 1 step to be learned, got {number}")
    return nn.Parameter(filled(layer, -math.log(number - 1), channels))


def time_constant(layer: Stateful, name: str, x: Tensor) -> Tensor:
    """``1 / sigmoid(w)`` as the op takes it for ``x``."""
    return per_channel(layer, name, torch.sigmoid(layer._constant(name, x)).reciprocal(), x)


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


def filled(layer: str, value: float, channels: int | None) -> Tensor:
    """Return ``value`` for the whole ``layer``, ``[1]``, or for each channel, ``[C]``."""
    if channels is not None:
        check.integer(layer, "channels", channels)
    # FSDP refuses parameters without dimensions.
    return torch.full((1 if channels is None else channels,), value)


def _completed(layer: type[Spiking]) -> str | None:
    """The docstring of a layer, with the entries of :class:`Spiking` for the arguments that it leaves out."""
    text, base = vars(layer).get("__doc__"), Spiking.__doc__
    if not text or not base or "op" not in vars(layer):  # python -OO has no docstrings
        return layer.__doc__
    parts = sections(text)
    listed = entries(parts.get("Args", ""))
    named = {name for names in listed for name in names.split(", ")} | {""}
    shared = entries(sections(base)["Args"])
    parts["Args"] = "\n".join([*filter(None, listed.values()), *(text for n, text in shared.items() if n not in named)])
    return "\n\n".join(f"{title}:\n{text}" if title else text for title, text in parts.items())
