"""SpikingJelly's neurons from step functions (snnfast/nn/equations.py) and its readouts: one class per node."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.nn import equations
from snnfast.nn.replaced import Replaced

from .port import Memo, refuse
from .spikingjelly_neurons import _InitialStates, _Resting, _surrogate

__all__: list[str] = []


class KLIFNode(_Resting, equations.klif.layer):  # type: ignore[name-defined, misc]
    """SpikingJelly's ``KLIFNode``, with its parameter ``k``."""

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        super().__init__(where, node, memo)
        self.k = copy.deepcopy(node.k, memo)

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        settings = super()._settings(where, node)
        settings |= equations.charge(float(node.tau), bool(node.decay_input))
        settings |= equations.reset(settings["v_reset"])
        return settings | {"scaled": float(node.scale_reset)}


class ComplementaryLIFNode(_Resting, equations.clif.layer):  # type: ignore[name-defined, misc]
    """SpikingJelly's ``ComplementaryLIFNode``."""

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        if node.store_state_seqs:
            refuse(where, "store_state_seqs=True keeps both states of every step; store_v_seq=True keeps v")
        super().__init__(where, node, memo)

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        return {"tau": float(node.tau)} | super()._settings(where, node)


class ILIFNode(_Resting, equations.ilif.layer):  # type: ignore[name-defined, misc]
    """SpikingJelly's ``ILIFNode``, whose output is a number of spikes."""

    @property
    def most(self) -> float:
        """Largest number of spikes of a neuron in a step."""
        return self.surrogate.most  # type: ignore[no-any-return, union-attr]

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        count = node.surrogate_function
        if type(count).__name__ != "MultiLevelSpikeCount" or not count.spiking:
            refuse(where, "its surrogate_function is not a spiking MultiLevelSpikeCount")
        spikes = equations.SpikeCount(int(count.max_spike_count), float(count.grad_min), float(count.grad_max))
        settings = {"decay": 1 - 1 / float(node.tau), "surrogate": spikes}
        return super()._settings(where, node) | settings


class RAFNode(_Resting, equations.raf.layer):  # type: ignore[name-defined, misc]
    """SpikingJelly's ``RAFNode``."""

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        turn = equations.turn(float(node.b), float(node.omega), float(node.dt))
        return turn | super()._settings(where, node)


class TernaryIFNode(_Resting, equations.ternary.layer):  # type: ignore[name-defined, misc]
    """SpikingJelly's ``TernaryIFNode``: spikes of 1 and -1."""

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        settings = super()._settings(where, node)
        return settings | equations.reset(settings["v_reset"])


class TernaryLIFNode(TernaryIFNode):
    """SpikingJelly's ``TernaryLIFNode``: spikes of 1 and -1."""

    def _settings(self, where: str, node: Any) -> dict[str, Any]:
        charge = equations.charge(float(node.tau), bool(node.decay_input))
        return charge | super()._settings(where, node)


class GatedLIFNode(_InitialStates, equations.glif.layer):  # type: ignore[name-defined, misc]
    """SpikingJelly's ``GatedLIFNode``, with its gates: logits of numbers in (0, 1), of the layer or of each channel.

    It takes ``[T, B, C, H, W]`` with the ``T`` of its construction: the gate ``conduct`` has a value for each step. A
    spike at the last step of a call does not reset the first step of the next call, as in SpikingJelly.
    """

    op = "gated_lif"  # the input is scaled before the step, outside of the op

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
            raise ValueError(f"GatedLIFNode: x must have shape [{self.T}, B, C, H, W], got {list(x.shape)}")
        self.return_v_seq = self.store_v_seq
        share = 1 - self._gate("beta", x) * (1 - self._gate("conduct", x))
        result = super().forward((x * share).to(x.dtype))
        if self.store_v_seq:
            result, self.v_seq = result
        return result  # type: ignore[no-any-return]

    @property
    def recurrent(self) -> Callable[..., Any]:
        """Not supported: recurrent spikes would have to pass the gates of the input."""
        raise ValueError("GatedLIFNode: its input has gates; recurrent connections have none")

    def _shown(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("T", *self._parameters, "surrogate")}

    def _gate(self, name: str, x: Tensor) -> Tensor:
        """Return a gate that broadcasts to ``x.shape[1:]``; ``conduct`` broadcasts to ``x``."""
        logits: Tensor = getattr(self, name).to(check.state_dtype(x.dtype))
        gate = torch.sigmoid(logits)
        if name == "conduct":
            return gate.view(self.T, 1, -1, 1, 1)
        return gate if gate.dim() == 0 else gate.view(-1, 1, 1)

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        names = {"decay": "tau", "leak": "linear_decay", "v_subtract": "v_subreset"}
        gates = {
            name: self._gate(names.get(name, name), x)
            for name in equations.glif.parameters
            if name not in ("beta", "g")
        }
        arguments: dict[str, Any] = super()._arguments(x)
        return arguments | gates | {"beta": 0.0}  # the input has passed its gates

    def _op_arguments(self, x: Tensor) -> dict[str, Any]:
        self._start(x)
        arguments: dict[str, Any] = super()._op_arguments(x)
        return arguments | {"s": None}


def _largest(v_seq: Tensor) -> Tensor:
    return v_seq.gather(0, v_seq.abs().argmax(0, keepdim=True)).squeeze(0)


# Any other decode returns the list, as in SpikingJelly.
_DECODED: dict[str | None, Callable[[Tensor], Tensor]] = {
    "max-mem": lambda v_seq: v_seq.max(0).values,
    "max-abs-mem": _largest,
    "mean-mem": lambda v_seq: v_seq.mean(0),
}


class _NonSpiking(nn.Module, Replaced):
    """SpikingJelly's neurons that return membranes: a list of all, or the one that ``decode`` computes from them."""

    fires, time_dim = False, None
    decode: str | None

    def __init__(self, where: str, node: Any, memo: Memo) -> None:
        super().__init__()
        self.decode = node.decode
        tau = getattr(node, "tau", None)
        self.leak: dict[str, Any] = {"decay": 1.0, "decay_input": False} if tau is None else {"tau": float(tau)}
        self.train(node.training)

    def forward(self, x: Tensor) -> Any:
        """Input ``[T, ...]`` -> membranes of all steps, a list, or with ``decode`` ``[...]``."""
        v_seq: Tensor = ops.li(x, **self.leak)[0]
        return _DECODED.get(self.decode, list)(v_seq)


class NonSpikingIFNode(_NonSpiking):
    """SpikingJelly's ``NonSpikingIFNode``."""


class NonSpikingLIFNode(_NonSpiking):
    """SpikingJelly's ``NonSpikingLIFNode``."""
