"""SpikingJelly's neurons as layers of this package that keep SpikingJelly's step modes and states."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnfast import check, surrogate
from snnfast.backend import BackendWarning
from snnfast.surrogate import Surrogate

from ..cuba import CubaLIF
from ..eif import EIF
from ..izhikevich import Izhikevich
from ..lif import IF, LIF, ParametricLIF
from ..qif import QIF
from ..spiking import Spiking
from ..state import Stateful
from .port import Library, Memo, Port, Replaced, refuse

__all__ = ["SPIKINGJELLY"]


class _Begun(Replaced, Stateful):
    """A layer whose states begin with what they are in SpikingJelly's neuron, numbers, too, and so after a reset.

    Attributes:
        starts: by the name of a state, what it begins with where that is not what the layer makes of None.
        resets: likewise after a reset.
    """

    theirs: ClassVar[dict[str, str]] = {}  # states with another name there
    _step_mode: str
    v_reset: Any
    starts: dict[str, float]
    resets: dict[str, float]

    def _take_states(self, node: Any) -> None:
        self.starts, self.resets = {}, {}
        for name in self.states:
            own = self.theirs.get(name, name)
            value = getattr(node, own, None)
            reset = getattr(node, "_memories_rv", {}).get(own)
            if isinstance(value, Tensor):
                setattr(self, name, value.detach().clone())
            for begin, found in ((self.starts, value), (self.resets, reset)):
                if isinstance(found, (int, float)) and found != self._at_rest(name):
                    begin[name] = float(found)

    def _at_rest(self, name: str) -> float:
        """What the layer makes of a state that is None."""
        return 0.0 if name != "v" or self.v_reset is None else self.v_reset

    def _start(self, x: Tensor) -> None:
        """Before a sequence ``x``: states that begin with another value."""
        for name, value in self.starts.items():
            if getattr(self, name) is None:
                state = x.new_full(x.shape[1:], value, dtype=check.state_dtype(x.dtype))
                setattr(self, name, state)

    def _keep_membranes(self, v_seq: Tensor) -> None:
        """As ``v_seq``; in step mode ``"s"`` behind those that are there."""
        known = self.v_seq if self.step_mode == "s" else None
        self.v_seq = v_seq if known is None else torch.cat([known, v_seq])

    @property
    def step_mode(self) -> str:
        """``"m"``, a call takes all steps ``[T, B, ...]``, or ``"s"``, it takes one, ``[B, ...]``."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, mode: str) -> None:
        check.choice(type(self).__name__, "step_mode", mode, ("s", "m"))
        self._step_mode = mode

    @property
    def time_dim(self) -> int | None:  # type: ignore[override]
        """Where the steps are in what a call takes and returns; None: a call is a step."""
        return 0 if self.step_mode == "m" else None

    def over_time(self, where: str) -> None:
        """Takes sequences ``[T, B, ...]`` from now on."""
        if self.step_mode == "m":
            raise ValueError(
                f"replace: {where}, a {type(self).__name__}, already takes sequences; leave sequences=True out"
            )
        self.step_mode = "m"

    def reset(self) -> None:
        """Forgets the state: the next call starts at rest, with any batch size."""
        super().reset()
        self.v_seq, self.starts = None, dict(getattr(self, "resets", {}))

    def detach(self) -> None:
        """Keeps the values of the state, and drops its graph."""
        super().detach()
        self.v_seq = None if self.v_seq is None else self.v_seq.detach()


class BaseNode(_Begun, Spiking):
    """What these layers have besides those of this package: step modes, ``store_v_seq``, and where membranes start.

    Attributes:
        step_mode: ``"m"``, a call takes all steps ``[T, B, ...]``, or ``"s"``, it takes one, ``[B, ...]``.
        store_v_seq: keep the membranes after every step as ``v_seq``; in step mode ``"s"`` it grows by every step.
    """

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        super().__init__(**self._settings(where, node))
        self._take_states(node)
        self.step_mode, self.store_v_seq = node.step_mode, bool(getattr(node, "store_v_seq", False))
        self.train(node.training)

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        return {
            # Infinite, the membrane never fires; what is compared is finite.
            "v_threshold": min(float(node.v_threshold), torch.finfo(torch.float32).max),
            "v_reset": None if node.v_reset is None else float(node.v_reset),
            "surrogate": _surrogate(where, node.surrogate_function),
            "detach_reset": bool(node.detach_reset),
            "stateful": True,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Input ``[T, B, ...]``, or in step mode ``"s"`` ``[B, ...]``, -> spikes of the same shape."""
        one = self.step_mode == "s"
        result = super().forward(x.unsqueeze(0) if one else x)
        if self.store_v_seq:
            result, v_seq = result
            self._keep_membranes(v_seq)
        return result.squeeze(0) if one else result  # type: ignore[no-any-return]

    @property
    def calls_once(self) -> bool:
        """Whether a call takes a sequence, and is one call of the op that gives spikes alone."""
        return self.step_mode == "m" and not self.store_v_seq

    def _given(self, x: Tensor) -> dict[str, Any]:
        self._start(x)
        self.return_v_seq = self.store_v_seq
        return super()._given(x)


class IFNode(BaseNode, IF):
    """SpikingJelly's ``IFNode``."""


class LIFNode(BaseNode, LIF):
    """SpikingJelly's ``LIFNode``."""

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        own = {"tau": float(node.tau), "decay_input": bool(node.decay_input)}
        return own | super()._settings(where, node)


class ParametricLIFNode(BaseNode, ParametricLIF):
    """SpikingJelly's ``ParametricLIFNode``, with its parameter ``w``."""

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        super().__init__(where, node, memo)
        self.w = copy.deepcopy(node.w, memo)

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        return {"decay_input": bool(node.decay_input)} | super()._settings(where, node)


class _Resting(BaseNode):
    """A neuron whose op begins at ``v_rest``, and which itself begins at ``v_reset``, or 0 with a soft reset."""

    def _at_rest(self, name: str) -> float:
        v_rest: Any = self.v_rest
        return v_rest if name == "v" else 0.0


class CUBALIFNode(_Resting, CubaLIF):
    """SpikingJelly's ``CUBALIFNode``: its current is the state ``i``, theirs ``c``."""

    theirs: ClassVar[dict[str, str]] = {"i": "c"}

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        decays = {"decay": float(node.v_decay), "decay_syn": float(node.c_decay)}
        own = {"decay_input": False, "v_rest": 0.0}
        return decays | own | super()._settings(where, node)


class _Nonlinear(_Resting):
    """A neuron with settings of its own by SpikingJelly's names."""

    own: tuple[str, ...]

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        own = {name.lower(): float(getattr(node, name)) for name in self.own}
        return own | super()._settings(where, node)


class QIFNode(_Nonlinear, QIF):
    """SpikingJelly's ``QIFNode``."""

    own = ("tau", "v_c", "a0", "v_rest")


class EIFNode(_Nonlinear, EIF):
    """SpikingJelly's ``EIFNode``."""

    own = ("tau", "delta_T", "theta_rh", "v_rest")


class IzhikevichNode(_Nonlinear, Izhikevich):
    """SpikingJelly's ``IzhikevichNode``."""

    own = ("tau", "v_c", "a0", "v_rest", "tau_w", "a", "b")


class KLIFNode(_Begun, Port):
    """SpikingJelly's ``KLIFNode``: a LIF whose membrane is ``relu(k h)`` before it is compared with the threshold.

    ::

        f[t] = relu(k h[t]),  s[t] = f[t] >= v_threshold
        v[t] = (1 - s[t]) f[t] + s[t] v_reset,  or  f[t] - s[t] v_threshold

    with ``h`` of :class:`snnfast.nn.LIF`; with ``scale_reset`` ``f`` and ``v_threshold`` are divided by ``k`` in the
    second line (Jiang and Zhang 2023, arXiv:2302.09238). No kernel has the ReLU, so it runs in plain PyTorch, with a
    warning.
    """

    states = ("v",)
    tau: float
    k: Tensor
    decay_input: bool
    scale_reset: bool
    v_threshold: float
    detach_reset: bool

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        names = ("k", "tau", "decay_input", "scale_reset", "v_threshold", "v_reset", "detach_reset")
        super().__init__(node, memo, (*names, "step_mode", "store_v_seq"))
        self.spike_function = _surrogate(where, node.surrogate_function)
        self._take_states(node)

    def forward(self, x: Tensor) -> Tensor:
        """Input ``[T, B, ...]``, or in step mode ``"s"`` ``[B, ...]``, -> spikes of the same shape."""
        warnings.warn(
            "KLIFNode runs in plain PyTorch, which is slow: no kernel has its ReLU",
            BackendWarning,
            stacklevel=2,
        )
        one = self.step_mode == "s"
        x = x.unsqueeze(0) if one else x
        rest = self._at_rest("v")
        self._start(x)
        (v,) = self._load_states(x)
        if v is None:
            v = x.new_full(x.shape[1:], rest, dtype=check.state_dtype(x.dtype))
        spikes, membranes = [], []
        for now in x:
            h = (
                v + (now - (v - rest)) / self.tau
                if self.decay_input
                else v - (v - rest) / self.tau + now
            )
            f, scale = torch.relu(self.k * h), self.k if self.scale_reset else 1.0
            s = self.spike_function(f - self.v_threshold)
            fired = s.detach() if self.detach_reset else s
            f, taken = f / scale, fired * (self.v_threshold / scale)
            v = f - taken if self.v_reset is None else (1.0 - fired) * f + fired * self.v_reset
            spikes.append(s.to(x.dtype))
            membranes.append(v)
        self._store_states(v)
        if self.store_v_seq:
            self._keep_membranes(torch.stack(membranes))
        return spikes[0] if one else torch.stack(spikes)


# By the name of the class, what snnfast.surrogate has for its alpha; None: nothing for this one.
_SURROGATES: dict[str, Callable[[float], Surrogate | None]] = {
    "Sigmoid": surrogate.sigmoid,
    "ATan": surrogate.atan,
    "Erf": surrogate.gaussian,
    "PiecewiseQuadratic": surrogate.triangle,
    "Rect": surrogate.rectangle,
    "SuperSpike": lambda alpha: surrogate.fast_sigmoid(1.0) if alpha == 1 else None,
    "SoftSign": lambda alpha: surrogate.fast_sigmoid(2.0) if alpha == 2 else None,
}


def _surrogate(where: str, function: Any) -> Surrogate | Callable[[Tensor], Tensor]:
    """What the kernels know by name; any other function as it is, which the reference runs."""
    if isinstance(function, torch.nn.Module) and function.state_dict():
        refuse(where, "its surrogate_function has parameters or buffers")
    kind = type(function)
    library = kind.__module__.partition(".")[0] == "spikingjelly"  # a user's may have the same name
    make = _SURROGATES.get(kind.__name__) if library else None
    known = make(float(function.alpha)) if make and getattr(function, "spiking", True) else None
    return function if known is None else known


SPIKINGJELLY = Library(
    name="spikingjelly",
    neurons={
        kind.__name__: kind
        for kind in (
            *(IFNode, LIFNode, ParametricLIFNode, KLIFNode, CUBALIFNode),
            *(QIFNode, EIFNode, IzhikevichNode),
        )
    },
    refused=dict.fromkeys(
        ("NonSpikingIFNode", "NonSpikingLIFNode"),
        "it returns a list of membranes, or one that is decoded; snnfast.nn.LI and a readout do that",
    ),
    bases=frozenset(),
    package="neuron",
)
