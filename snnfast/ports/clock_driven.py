"""Model files on SpikingJelly's ``clock_driven`` without SpikingJelly: import this before the model.

    >>> import snnfast.ports.clock_driven
    >>> from model import spikformer                         # with from spikingjelly.clock_driven.neuron import ...

The import provides ``spikingjelly.clock_driven`` with ``neuron``, ``layer``, ``functional``, ``surrogate`` and
``base``, and ``spikingjelly.cext.neuron``, made of the layers of this package. They have the arguments of SpikingJelly
0.0.0.0.12 and 0.0.0.0.14; ``backend="cupy"`` needs no CuPy. Where SpikingJelly is installed, or was imported before,
nothing changes, and a warning says so.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any, NoReturn

from .older_spikingjelly import base, cext_neuron, functional, layer, neuron, surrogate

__all__: list[str] = []

_MODULES = {
    "clock_driven.base": base,
    "clock_driven.functional": functional,
    "clock_driven.layer": layer,
    "clock_driven.neuron": neuron,
    "clock_driven.surrogate": surrogate,
    "cext.neuron": cext_neuron,
}


def _missing(module: str) -> Callable[[str], NoReturn]:
    """Return a module's ``__getattr__``, which refuses names that it lacks, also in ``from ... import``."""

    def refuse(name: str) -> NoReturn:
        if name.startswith("__"):  # Python asks for these
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ImportError(
            f"snnfast.ports.clock_driven has no {module}.{name}; it has {', '.join(_MODULES)} with what their __all__ "
            "names; for others install SpikingJelly, leave this import out, and give the network to snnfast.nn.replace"
        )

    return refuse


class _Others(MetaPathFinder):
    """Finder that refuses all other modules of SpikingJelly."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Raise for a module of SpikingJelly that this package does not have."""
        package, _, name = fullname.partition(".")
        if package == "spikingjelly":
            _missing(package)(name)


def _provide() -> None:
    """Add the modules to ``sys.modules``, unless there is a SpikingJelly."""
    if "spikingjelly" in sys.modules or importlib.util.find_spec("spikingjelly") is not None:
        warnings.warn(
            "snnfast.ports.clock_driven: SpikingJelly is installed, so that nothing of it changes: a model builds as "
            "it is, with CuPy where it asks for it, and snnfast.nn.replace takes it; without CuPy uninstall it",
            stacklevel=3,
        )
        return
    packages = {name: ModuleType(f"spikingjelly{name}") for name in ("", ".clock_driven", ".cext")}
    for name, module in packages.items():
        module.__path__ = []  # a package
        module.__getattr__ = _missing(module.__name__)  # type: ignore[method-assign]
        sys.modules[module.__name__] = module
        if name:
            setattr(packages[""], name[1:], module)
    for name, stand_in in _MODULES.items():
        package, _, last = name.partition(".")
        sys.modules[f"spikingjelly.{name}"] = stand_in
        stand_in.__getattr__ = _missing(f"spikingjelly.{name}")  # type: ignore[method-assign]
        setattr(packages[f".{package}"], last, stand_in)
    sys.meta_path.append(_Others())


_provide()
