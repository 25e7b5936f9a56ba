"""``spikingjelly.clock_driven.neuron``: neurons with SpikingJelly's arguments, on the kernels of this package."""

from __future__ import annotations

import inspect
import math
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import nn

from snnfast.ports import spikingjelly_neurons as ports

from .surrogate import Sigmoid

__all__ = [
    *("BaseNode", "EIFNode", "IFNode", "LIFNode", "MultiStepEIFNode", "MultiStepIFNode"),
    *("MultiStepLIFNode", "MultiStepParametricLIFNode", "ParametricLIFNode", "QIFNode"),
]

# Methods by which a subclass of SpikingJelly's neurons changes their equation.
_STEPS = ("neuronal_charge", "neuronal_fire", "neuronal_reset")
_FIRING = {"v_threshold": 1.0, "v_reset": 0.0, "surrogate_function": Sigmoid(), "detach_reset": False}
_NONLINEAR = {"v_threshold": 1.0, "v_rest": 0.0} | _FIRING | {"v_reset": -0.1}
_BACKEND = {"backend": "torch"}


class BaseNode(ports.BaseNode):
    """Base of the neurons: a call takes a step ``[B, ...]``, that of ``MultiStep...`` a sequence ``[T, B, ...]``.

    ``backend``, ``lava_s_cale`` and ``cupy_fp32_inference`` are accepted without effect: the kernels of this package
    run. ``node.store_v_seq = True`` keeps ``v_seq``.

    Attributes:
        arguments: names and defaults, in SpikingJelly's order.
    """

    arguments: ClassVar[dict[str, Any]] = {}

    def __init__(self, *positional: Any, **named: Any) -> None:
        kind = type(self)
        if not kind.arguments:
            raise TypeError(f"{kind.__name__}: it has no equation; write a neuron of your own by snnfast.neuron")
        try:
            bound = _signature(kind.arguments).bind(*positional, **named)
        except TypeError as error:
            raise TypeError(f"{kind.__name__}: {error}; it has {', '.join(kind.arguments)}") from None
        settings = kind.arguments | bound.arguments
        begin = 0.0 if settings["v_reset"] is None else float(settings["v_reset"])
        self._prepare(settings)
        mode = "m" if any(base.__name__.startswith("MultiStep") for base in kind.__mro__) else "s"
        node = SimpleNamespace(**settings, step_mode=mode, training=True, v=begin, _memories_rv={"v": begin})
        super().__init__(kind.__name__, node, {})
        self.backend = settings.get("backend", "torch")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if changed := [name for name in _STEPS if name in vars(cls)]:
            raise TypeError(
                f"{cls.__name__}: it has {', '.join(changed)} of its own, which the kernels do not call; write the "
                "neuron by snnfast.neuron, or install SpikingJelly"
            )
        cls.__signature__ = _signature(cls.arguments)  # type: ignore[attr-defined]

    def _prepare(self, settings: dict[str, Any]) -> None:
        """Add attributes of SpikingJelly's neuron that are no arguments."""

    @property
    def surrogate_function(self) -> Any:
        """The surrogate gradient, by SpikingJelly's name."""
        return self.surrogate

    @surrogate_function.setter
    def surrogate_function(self, function: Any) -> None:
        self.surrogate = function


def _signature(arguments: dict[str, Any]) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind, default=value) for name, value in arguments.items()])


class IFNode(BaseNode, ports.IFNode):
    """SpikingJelly's ``IFNode``."""

    arguments: ClassVar[dict[str, Any]] = {**_FIRING, "cupy_fp32_inference": False}


class MultiStepIFNode(IFNode):
    """SpikingJelly's ``MultiStepIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {**_FIRING, **_BACKEND, "lava_s_cale": 64}


class LIFNode(BaseNode, ports.LIFNode):
    """SpikingJelly's ``LIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {"tau": 2.0, "decay_input": True, **IFNode.arguments}


class MultiStepLIFNode(LIFNode):
    """SpikingJelly's ``MultiStepLIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {"tau": 2.0, "decay_input": True, **MultiStepIFNode.arguments}


class ParametricLIFNode(BaseNode, ports.ParametricLIFNode):
    """SpikingJelly's ``ParametricLIFNode``, with its parameter ``w``."""

    arguments: ClassVar[dict[str, Any]] = {"init_tau": 2.0, "decay_input": True, **_FIRING}

    def _prepare(self, settings: dict[str, Any]) -> None:
        tau = settings["init_tau"]
        if not tau > 1:
            raise ValueError(f"{type(self).__name__}: init_tau must be above 1 step, got {tau}")
        settings["w"] = nn.Parameter(torch.as_tensor(-math.log(tau - 1)))


class MultiStepParametricLIFNode(ParametricLIFNode):
    """SpikingJelly's ``MultiStepParametricLIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {**ParametricLIFNode.arguments, **_BACKEND}


class QIFNode(BaseNode, ports.QIFNode):
    """SpikingJelly's ``QIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {"tau": 2.0, "v_c": 0.8, "a0": 1.0} | _NONLINEAR


class EIFNode(BaseNode, ports.EIFNode):
    """SpikingJelly's ``EIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {"tau": 2.0, "delta_T": 1.0, "theta_rh": 0.8} | _NONLINEAR


class MultiStepEIFNode(EIFNode):
    """SpikingJelly's ``MultiStepEIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {**EIFNode.arguments, **_BACKEND}
