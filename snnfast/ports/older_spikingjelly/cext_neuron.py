"""``spikingjelly.cext.neuron``: neurons of the extension in C++, whose surrogate is a name and ``alpha``."""

from __future__ import annotations

from typing import Any, ClassVar

from . import neuron, surrogate

__all__ = ["IFNode", "LIFNode", "MultiStepIFNode", "MultiStepLIFNode"]

_FIRING = {"v_threshold": 1.0, "v_reset": 0.0, "surrogate_function": "ATan", "alpha": 2.0, "detach_reset": False}


class _Named:
    """A neuron whose surrogate is given as a name and ``alpha``."""

    def _prepare(self, settings: dict[str, Any]) -> None:
        name, known = settings["surrogate_function"], ("ATan", "Sigmoid")
        if name not in known:
            raise ValueError(f"{type(self).__name__}: surrogate_function must be {' or '.join(known)}, got {name!r}")
        settings["surrogate_function"] = getattr(surrogate, name)(settings["alpha"])
        settings["decay_input"] = True


class IFNode(_Named, neuron.IFNode):
    """SpikingJelly's ``cext.neuron.IFNode``."""

    arguments: ClassVar[dict[str, Any]] = _FIRING


class MultiStepIFNode(_Named, neuron.MultiStepIFNode):
    """SpikingJelly's ``cext.neuron.MultiStepIFNode``."""

    arguments: ClassVar[dict[str, Any]] = _FIRING


class LIFNode(_Named, neuron.LIFNode):
    """SpikingJelly's ``cext.neuron.LIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {"tau": 100.0, **_FIRING}


class MultiStepLIFNode(_Named, neuron.MultiStepLIFNode):
    """SpikingJelly's ``cext.neuron.MultiStepLIFNode``."""

    arguments: ClassVar[dict[str, Any]] = {"tau": 100.0, **_FIRING}
