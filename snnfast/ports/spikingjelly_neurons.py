"""SpikingJelly's neurons that the package has: one class per node."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnfast import check
from snnfast.nn.cuba_lif import CubaLIF
from snnfast.nn.library import library_of
from snnfast.nn.neurons import EIF, IF, LIF, QIF, Izhikevich
from snnfast.nn.own_neuron import OwnLayer
from snnfast.nn.parametric_lif import ParametricLIF
from snnfast.nn.replaced import Replaced
from snnfast.nn.spiking import Spiking
from snnfast.nn.state import Stateful
from snnfast.nn.steps_seen import StepsSeen
from snnfast.reference import surrogate
from snnfast.reference.surrogate import Surrogate

from .port import Looping, Memo, refuse

__all__: list[str] = []

# Class name -> function of alpha that returns the equivalent surrogate, or None if there is none for this alpha.
SURROGATES: dict[str, Callable[[float], Surrogate | None]] = {
    "Sigmoid": surrogate.sigmoid,
    "ATan": surrogate.atan,
    "Erf": surrogate.gaussian,
    "PiecewiseQuadratic": surrogate.triangle,
    "Rect": surrogate.rectangle,
    "SuperSpike": lambda alpha: surrogate.fast_sigmoid(1.0) if alpha == 1 else None,
    "SoftSign": lambda alpha: surrogate.fast_sigmoid(2.0) if alpha == 2 else None,
}


def _surrogate(where: str, function: Any) -> Surrogate | Callable[[Tensor], Tensor]:
    """Return the surrogate that the kernels know by name; any other function unchanged, for the reference to run."""
    if isinstance(function, torch.nn.Module) and function.state_dict():
        refuse(where, "its surrogate_function has parameters or buffers")
    kind = type(function)
    # a user's class may have the same name
    make = SURROGATES.get(kind.__name__) if library_of(kind) == "spikingjelly" else None
    known = make(float(function.alpha)) if make and getattr(function, "spiking", True) else None
    return function if known is None else known


class _InitialStates(Replaced, Stateful):
    """A layer whose initial states, and those after a reset, are those of SpikingJelly's neuron, also numbers.

    Attributes:
        starts: initial values of states, by name, that differ from the layer's resting values.
        resets: likewise after a reset.
    """

    library_names: ClassVar[dict[str, str]] = {}  # names of states that differ in SpikingJelly
    _step_mode: str
    v_reset: Any
    starts: dict[str, float]
    resets: dict[str, float]

    def _take_states(self, node: Any) -> None:
        self.starts, self.resets = {}, {}
        for name in self.states:
            node_name = self.library_names.get(name, name)
            value = getattr(node, node_name, None)
            reset = getattr(node, "_memories_rv", {}).get(node_name)
            if isinstance(value, Tensor):
                setattr(self, name, value.detach().clone())
            for begin, found in ((self.starts, value), (self.resets, reset)):
                if isinstance(found, (int, float)) and found != self._at_rest(name):
                    begin[name] = float(found)

    def _at_rest(self, name: str) -> float:
        """Return the resting value of a state, which replaces None."""
        return 0.0 if name != "v" or self.v_reset is None else self.v_reset

    def _start(self, x: Tensor) -> None:
        """Set the states with another initial value before a sequence ``x``."""
        for name, value in self.starts.items():
            if getattr(self, name) is None:
                state = x.new_full(x.shape[1:], value, dtype=check.state_dtype(x.dtype))
                setattr(self, name, state)

    def _keep_membranes(self, v_seq: Tensor) -> None:
        """Store membranes as ``v_seq``; in step mode ``"s"`` append them."""
        known = self.v_seq if self.step_mode == "s" else None
        self.v_seq = v_seq if known is None else torch.cat([known, v_seq])

    @property
    def step_mode(self) -> str:
        """``"m"``: a call takes all steps ``[T, B, ...]``; ``"s"``: it takes one, ``[B, ...]``."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, mode: str) -> None:
        check.choice(type(self).__name__, "step_mode", mode, ("s", "m"))
        self._step_mode = mode

    @property
    def time_dim(self) -> int | None:  # type: ignore[override]
        """Dimension of the steps in the input and output of a call; None: a call is one step."""
        return 0 if self.step_mode == "m" else None

    def over_time(self, where: str) -> None:
        """Switch to sequences ``[T, B, ...]``."""
        if self.step_mode == "m":
            raise ValueError(
                f"replace: {where}, a {type(self).__name__}, already takes sequences; leave sequences=True out"
            )
        self.step_mode = "m"

    def reset(self) -> None:
        """Discard the state: the next call starts at rest, with any batch size."""
        super().reset()
        self.v_seq, self.starts = None, dict(getattr(self, "resets", {}))

    def detach(self) -> None:
        """Keep the values of the state, and drop its graph."""
        super().detach()
        self.v_seq = None if self.v_seq is None else self.v_seq.detach()


class BaseNode(_InitialStates, Looping, Spiking):
    """Base that adds to this package's layers: step modes, ``store_v_seq`` and initial membrane potentials.

    Attributes:
        from_rest: whether every call begins at rest.
        step_mode: ``"m"``: a call takes all steps ``[T, B, ...]``; ``"s"``: it takes one, ``[B, ...]``.
        store_v_seq: store the membranes after every step as ``v_seq``; in step mode ``"s"`` each step is appended.
    """

    from_rest = False
    steps_seen: tuple[StepsSeen, str] | None = None
    states_optional = returns_output_only = True
    names_of_states = state_results = ()
    every_step = (0,)

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        super().__init__(**self._settings(where, node))
        self._take_states(node)
        # In clock_driven, the older half of the library, the name of the class says it.
        of_name = "m" if type(node).__name__.startswith("MultiStep") else "s"
        self.step_mode = getattr(node, "step_mode", of_name)
        self.store_v_seq = bool(getattr(node, "store_v_seq", False))
        self.train(node.training)

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        return {
            # With an infinite threshold the neuron never fires; kernels need a finite one.
            "v_threshold": min(float(node.v_threshold), torch.finfo(torch.float32).max),
            "v_reset": None if node.v_reset is None else float(node.v_reset),
            "surrogate": _surrogate(where, node.surrogate_function),
            "detach_reset": bool(node.detach_reset),
            "stateful": True,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Input ``[T, B, ...]``, or in step mode ``"s"`` ``[B, ...]``, -> spikes of the same shape."""
        single_step = self.step_mode == "s"
        if self.steps_seen and not single_step:
            seen, name = self.steps_seen
            seen.see(name, x.shape)
        if self.from_rest:
            self.reset()
        result = super().forward(x.unsqueeze(0) if single_step else x)
        if self.store_v_seq:
            result, v_seq = result
            self._keep_membranes(v_seq)
        return result.squeeze(0) if single_step else result  # type: ignore[no-any-return]

    def take_sequence(self, from_rest: bool) -> None:
        """Switch to sequences ``[T, B, ...]``, which start at rest or continue from the previous call."""
        if self.store_v_seq and not from_rest:
            raise ValueError(
                f"replace: a {type(self).__name__} with store_v_seq=True keeps the membranes of all calls; let forward "
                "begin with functional.reset_net(self)"
            )
        self.step_mode, self.from_rest = "m", from_rest

    @property
    def calls_once(self) -> bool:
        """True if a call takes a sequence and is a single call of an op that returns only spikes."""
        compiled = isinstance(self, OwnLayer)  # its kernels cannot pool spikes
        return self.step_mode == "m" and not self.store_v_seq and not compiled

    def _op_arguments(self, x: Tensor) -> dict[str, Any]:
        self._start(x)
        self.return_v_seq = self.store_v_seq
        return super()._op_arguments(x)


class IFNode(BaseNode, IF):
    """SpikingJelly's ``IFNode``."""


class LIFNode(BaseNode, LIF):
    """SpikingJelly's ``LIFNode``."""

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        settings = {"tau": float(node.tau), "decay_input": bool(node.decay_input)}
        return settings | super()._settings(where, node)


class SimpleIFNode(IFNode):
    """SpikingJelly's ``SimpleIFNode``."""


class SimpleLIFNode(LIFNode):
    """SpikingJelly's ``SimpleLIFNode``."""


class HalfThresholdIFNode(IFNode):
    """SpikingJelly's ``HalfThresholdIFNode``, which begins at half the threshold."""


class ParametricLIFNode(BaseNode, ParametricLIF):
    """SpikingJelly's ``ParametricLIFNode``, with its parameter ``w``."""

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        super().__init__(where, node, memo)
        self.w = copy.deepcopy(node.w, memo)

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        return {"decay_input": bool(node.decay_input)} | super()._settings(where, node)


class _Resting(BaseNode):
    """A neuron that starts at ``v_reset``, or 0 with a soft reset, while its op starts at ``v_rest`` or 0."""

    def _at_rest(self, name: str) -> float:
        return getattr(self, "v_rest", 0.0) if name == "v" else 0.0


class CUBALIFNode(_Resting, CubaLIF):
    """SpikingJelly's ``CUBALIFNode``; its current is the state ``i``, in SpikingJelly ``c``."""

    library_names: ClassVar[dict[str, str]] = {"i": "c"}

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        decays = {"decay": float(node.v_decay), "decay_syn": float(node.c_decay)}
        constants = {"decay_input": False, "v_rest": 0.0}
        return decays | constants | super()._settings(where, node)


class _Nonlinear(_Resting):
    """A neuron with further settings, by SpikingJelly's names."""

    extra_names: tuple[str, ...]

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        settings = {name.lower(): float(getattr(node, name)) for name in self.extra_names}
        return settings | super()._settings(where, node)


class QIFNode(_Nonlinear, QIF):
    """SpikingJelly's ``QIFNode``."""

    extra_names = ("tau", "v_c", "a0", "v_rest")


class EIFNode(_Nonlinear, EIF):
    """SpikingJelly's ``EIFNode``."""

    extra_names = ("tau", "delta_T", "theta_rh", "v_rest")


class IzhikevichNode(_Nonlinear, Izhikevich):
    """SpikingJelly's ``IzhikevichNode``."""

    extra_names = ("tau", "v_c", "a0", "v_rest", "tau_w", "a", "b")
