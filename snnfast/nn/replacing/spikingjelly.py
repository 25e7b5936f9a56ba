"""SpikingJelly's neurons as layers of this package that keep SpikingJelly's step modes and states."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snnfast import check, ops, surrogate
from snnfast.surrogate import Surrogate

from .. import equations
from ..cuba import CubaLIF
from ..eif import EIF
from ..izhikevich import Izhikevich
from ..lif import IF, LIF, ParametricLIF
from ..own_neuron import OwnLayer
from ..qif import QIF
from ..spiking import Spiking
from ..state import Stateful
from .port import Library, Memo, Replaced, refuse

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
        own = isinstance(self, OwnLayer)  # whose kernels pool no spikes
        return self.step_mode == "m" and not self.store_v_seq and not own

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
    """A neuron whose op begins at ``v_rest`` or 0, and which itself begins at ``v_reset``, or 0 with a soft reset."""

    def _at_rest(self, name: str) -> float:
        return getattr(self, "v_rest", 0.0) if name == "v" else 0.0


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


# ---- neurons from step functions


class KLIFNode(_Resting, equations.klif.layer):
    """SpikingJelly's ``KLIFNode``, with its parameter ``k``."""

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        super().__init__(where, node, memo)
        self.k = copy.deepcopy(node.k, memo)

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        settings = super()._settings(where, node)
        settings |= equations.charge(float(node.tau), bool(node.decay_input))
        settings |= equations.reset(settings["v_reset"])
        return settings | {"scaled": float(node.scale_reset)}


class ComplementaryLIFNode(_Resting, equations.clif.layer):
    """SpikingJelly's ``ComplementaryLIFNode``."""

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        if node.store_state_seqs:
            refuse(
                where,
                "store_state_seqs=True keeps both states of every step; store_v_seq=True keeps v",
            )
        super().__init__(where, node, memo)

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        return {"tau": float(node.tau)} | super()._settings(where, node)


class ILIFNode(_Resting, equations.ilif.layer):
    """SpikingJelly's ``ILIFNode``: it gives numbers of spikes."""

    @property
    def most(self) -> float:
        """How many times a neuron may fire in a step."""
        return self.surrogate.most  # type: ignore[no-any-return, union-attr]

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        count = node.surrogate_function
        if type(count).__name__ != "MultiLevelSpikeCount" or not count.spiking:
            refuse(where, "its surrogate_function is not a spiking MultiLevelSpikeCount")
        spikes = equations.SpikeCount(
            int(count.max_spike_count), float(count.grad_min), float(count.grad_max)
        )
        own = {"decay": 1 - 1 / float(node.tau), "surrogate": spikes}
        return super()._settings(where, node) | own


class RAFNode(_Resting, equations.raf.layer):
    """SpikingJelly's ``RAFNode``."""

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        turn = equations.turn(float(node.b), float(node.omega), float(node.dt))
        return turn | super()._settings(where, node)


class TernaryIFNode(_Resting, equations.ternary.layer):
    """SpikingJelly's ``TernaryIFNode``: spikes of 1 and -1."""

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        settings = super()._settings(where, node)
        return settings | equations.reset(settings["v_reset"])


class TernaryLIFNode(TernaryIFNode):
    """SpikingJelly's ``TernaryLIFNode``: spikes of 1 and -1."""

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        charge = equations.charge(float(node.tau), bool(node.decay_input))
        return charge | super()._settings(where, node)


class GatedLIFNode(_Begun, equations.glif.layer):
    """SpikingJelly's ``GatedLIFNode``, with its gates: logits of numbers in (0, 1), of the layer or of each channel.

    It takes ``[T, B, C, H, W]`` of the ``T`` that it was made for: the gate ``conduct`` has a value for each step. A
    call begins without the reset of a spike at the end of the last one, as SpikingJelly's does.
    """

    op = "gated_lif"  # the input is scaled before the step, and the op does not know of it

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        function = _surrogate(where, node.surrogate_function)
        super().__init__(surrogate=function, v_reset=None, stateful=True)  # type: ignore[call-arg]
        self.T = int(node.T)
        for name in node._parameters:
            setattr(self, name, copy.deepcopy(node._parameters[name], memo))
        self._take_states(node)
        self.step_mode = "m"
        self.train(node.training)

    def forward(self, x: Tensor) -> Tensor:
        """Input ``[T, B, C, H, W]`` -> spikes of the same shape."""
        if x.dim() != 5 or len(x) != self.T:
            raise ValueError(
                f"GatedLIFNode: x must have shape [{self.T}, B, C, H, W], got {list(x.shape)}"
            )
        self.return_v_seq = self.store_v_seq
        share = 1 - self._gate("beta", x) * (1 - self._gate("conduct", x))
        result = super().forward((x * share).to(x.dtype))
        if self.store_v_seq:
            result, self.v_seq = result
        return result  # type: ignore[no-any-return]

    @property
    def recurrent(self) -> Callable[..., Any]:
        """None: spikes that come back would have to pass the gates of the input."""
        raise ValueError("GatedLIFNode: its input has gates; recurrent connections have none")

    def _shown(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("T", *self._parameters, "surrogate")}

    def _gate(self, name: str, x: Tensor) -> Tensor:
        """A gate that broadcasts to ``x.shape[1:]``; ``conduct`` to ``x``."""
        logits: Tensor = getattr(self, name).to(check.state_dtype(x.dtype))
        gate = torch.sigmoid(logits)
        if name == "conduct":
            return gate.view(self.T, 1, -1, 1, 1)
        return gate if gate.dim() == 0 else gate.view(-1, 1, 1)

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        a, c, tau, linear, subreset = (
            self._gate(name, x) for name in ("alpha", "gamma", "tau", "linear_decay", "v_subreset")
        )
        decay = 1 - a * (1 - tau)
        arguments: dict[str, Any] = super()._arguments(x)
        return arguments | {
            "decay": decay,
            "leak": (1 - a) * linear,
            "part": decay * c,
            "subtract": (1 - c) * subreset,
            "v_threshold": self._gate("v_threshold", x),
        }

    def _given(self, x: Tensor) -> dict[str, Any]:
        self._start(x)
        given: dict[str, Any] = super()._given(x)
        return given | {"s": None}


def _largest(v_seq: Tensor) -> Tensor:
    return v_seq.gather(0, v_seq.abs().argmax(0, keepdim=True)).squeeze(0)


# Any other decode gives the list, in SpikingJelly, too.
_DECODED: dict[str | None, Callable[[Tensor], Tensor]] = {
    "max-mem": lambda v_seq: v_seq.max(0).values,
    "max-abs-mem": _largest,
    "mean-mem": lambda v_seq: v_seq.mean(0),
}


class _NonSpiking(nn.Module, Replaced):
    """SpikingJelly's neurons that give their membranes: a list of them, or one that ``decode`` makes of all."""

    fires, time_dim = False, None
    decode: str | None

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        super().__init__()
        self.decode = node.decode
        tau = getattr(node, "tau", None)
        self.leak: dict[str, Any] = (
            {"decay": 1.0, "decay_input": False} if tau is None else {"tau": float(tau)}
        )
        self.train(node.training)

    def forward(self, x: Tensor) -> Any:
        """Input ``[T, ...]`` -> membranes of all steps, a list, or with ``decode`` ``[...]``."""
        v_seq: Tensor = ops.li(x, **self.leak)[0]
        return _DECODED.get(self.decode, list)(v_seq)


class NonSpikingIFNode(_NonSpiking):
    """SpikingJelly's ``NonSpikingIFNode``."""


class NonSpikingLIFNode(_NonSpiking):
    """SpikingJelly's ``NonSpikingLIFNode``."""


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


REFUSED = {
    **dict.fromkeys(
        ("PSN", "MaskedPSN", "SlidingPSN"),
        "a step of it sees other steps by a matrix, and a neuron here sees the step before",
    ),
    **dict.fromkeys(
        ("OTTTLIFNode", "SLTTLIFNode", "DSRIFNode", "DSRLIFNode"),
        "it has a gradient of its own, which is not that of its steps",
    ),
    **dict.fromkeys(("MPBNBaseNode", "MPBNLIFNode"), "batch normalisation changes its membrane"),
    **dict.fromkeys(
        ("NoisyCUBALIFNode", "NoisyILCCUBALIFNode", "NoisyNonSpikingIFNode"),
        "it draws noise for its membrane",
    ),
    **dict.fromkeys(
        ("ILCIFNode", "ILCLIFNode", "ILCCUBALIFNode"),
        "its neurons drive each other by weights of its own",
    ),
    "STBIFNode": "it bounds the sum of all that it has fired, for inference alone",
    **dict.fromkeys(
        ("FewSpikeNode", "HGNode", "OutlierAwareThresholdNode"), "it reads a table of codes"
    ),
    "LIAFNode": "it gives what a function of yours makes of the membrane",
    "FlexSN": "its equation is a function of yours: make a neuron of it by snnfast.neuron",
}

SPIKINGJELLY = Library(
    name="spikingjelly",
    neurons={
        kind.__name__: kind
        for kind in (
            *(IFNode, LIFNode, ParametricLIFNode, CUBALIFNode, QIFNode, EIFNode, IzhikevichNode),
            *(KLIFNode, ComplementaryLIFNode, ILIFNode, RAFNode, GatedLIFNode),
            *(TernaryIFNode, TernaryLIFNode, SimpleIFNode, SimpleLIFNode, HalfThresholdIFNode),
            *(NonSpikingIFNode, NonSpikingLIFNode),
        )
    },
    refused=REFUSED,
    bases=frozenset(),
    package="neuron",
)
