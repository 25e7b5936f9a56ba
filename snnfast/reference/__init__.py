"""The ops in plain PyTorch, with the same signatures: the test oracle, the documentation and the third backend.

``snnfast/reference/<stem>.py`` says all about an op but how it gets fast: its call, a named tuple of checked arguments;
its equation, a function of the call; and its public signature and documentation, a function that checks arguments and
returns the call. Kernels, their fakes and the equation take what they need from the call by name; its fields are the
arguments of the C++ operator in the same order (``csrc/ops/<stem>.cpp``). ``neuron.py`` makes all of this for neurons,
from the equation of a step.
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
globals().update(_OPS)  # after all modules are loaded, whose names some of them bear
__all__ = sorted(_OPS)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
