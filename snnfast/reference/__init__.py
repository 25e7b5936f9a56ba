"""The ops in plain PyTorch, with the same signatures: the test oracle, the documentation and the third backend.

A file of this package holds the equation of an op and nothing else; its arguments, checked, are the call of the same
name in ``snnfast.calls``.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import FunctionType
from typing import Any

_OPS: dict[str, Any] = {
    name: function
    for module in iter_modules(__path__)
    for name, function in vars(import_module(f"{__name__}.{module.name}")).items()
    if isinstance(function, FunctionType)
    and (function.__module__ == __name__ or (name == module.name != "neuron"))
}
globals().update(_OPS)  # after all modules are loaded, whose names some of them bear
__all__ = sorted(_OPS)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
