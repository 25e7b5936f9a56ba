"""The ops in plain PyTorch, with the same signatures: the test oracle, the documentation and the third backend.

``snnfast/reference/<stem>.py`` defines an op except for its kernels: its call, a named tuple of checked arguments; its
equation, a function of the call; and its public signature and documentation, a function that checks arguments and
returns the call. Kernels, their fakes and the equation read fields of the call by name; the fields are the arguments of
the C++ operator in the same order (``csrc/ops/<stem>.cpp``). For neurons, ``neuron.py`` derives all of this from the
equation of a step.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import FunctionType
from typing import Any

_OPS: dict[str, Any] = {
    name: function
    for module in iter_modules(__path__)
    for name, function in vars(import_module(f"{__name__}.{module.name}")).items()
    if isinstance(function, FunctionType) and function.__module__ == __name__
}
globals().update(_OPS)  # after all modules are loaded: some ops have the name of a module
__all__ = sorted(_OPS)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
