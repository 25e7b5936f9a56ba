"""Steps in plain PyTorch with the bits of their kernels: functions, and parameters that are numbers."""

from __future__ import annotations

import functools as tools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from . import functions

__all__ = ["KernelFunctions", "Scalar"]


class KernelFunctions(TorchFunctionMode):
    """Mode with exp and the like as in the kernels, and ``where`` of numbers in ``dtype``, that of the states."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        known = name in functions.__all__ and len(args) == 1 and not kwargs
        if known and not isinstance(args[0], Scalar):
            with torch._C.DisableTorchFunction():
                x = args[0] if args[0].is_floating_point() else args[0].to(torch.get_default_dtype())
                return getattr(functions, name)(x)
        if name == "where" and len(args) == 3 and not any(isinstance(a, Tensor) for a in args[1:]):
            # PyTorch would use its default dtype
            condition, *numbers = args
            args = (condition, *(torch.tensor(float(a), dtype=self.dtype) for a in numbers))
            args = (condition, *(a.to(condition.device) for a in args[1:]))
        return function(*args, **(kwargs or {}))


class Scalar(float):
    """A parameter that is a number, which PyTorch's functions take: ``torch.exp(-1 / tau)`` is a number again."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not callable(function := getattr(torch, name, None)):
            raise AttributeError(name)
        return tools.partial(function, self)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        like = next((a for a in (*args, *named.values()) if isinstance(a, Tensor) and a.is_floating_point()), None)
        if like is not None:

            def as_tensor(value: Any) -> Any:
                return like.new_tensor(float(value)) if isinstance(value, cls) else value

            return function(*map(as_tensor, args), **{k: as_tensor(a) for k, a in named.items()})
        if any(isinstance(a, Tensor) for a in args):  # a condition: the mode selects the dtype
            return function(*(float(a) if isinstance(a, cls) else a for a in args), **named)
        wide = [torch.tensor(float(a), dtype=torch.float64) if type(a) in (cls, float) else a for a in args]
        wide = [torch.tensor(a) if isinstance(a, bool) else a for a in wide]
        return cls(KernelFunctions(torch.float64).__torch_function__(function, types, wide, named))


def _computes(name: str) -> Callable[..., Any]:
    plain = getattr(float, name)

    def compute(*values: Any) -> Any:
        found = plain(*values)
        return Scalar(found) if isinstance(found, float) else found

    return compute


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Scalar, f"__{_name}__", _computes(f"__{_name}__"))
    setattr(Scalar, f"__r{_name}__", _computes(f"__r{_name}__"))
for _name in ("neg", "abs"):
    setattr(Scalar, f"__{_name}__", _computes(f"__{_name}__"))
