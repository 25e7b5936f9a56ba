"""The tracer of ``torch.fx`` that stops at this package's layers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from .state import Stateful

__all__ = ["OPERATORS", "InPlace", "Tracer", "place"]


# Operators in place, and those that return a new value.
OPERATORS: dict[Any, Any] = {
    getattr(operator, f"i{name.rstrip('_')}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor")
}


class InPlace(fx.Proxy):
    """Proxy that distinguishes ``x += y`` from ``x = x + y``, as fx does not."""


def _change(operation: Callable[..., Any]) -> Callable[[InPlace, Any], fx.Proxy]:
    def change(self: InPlace, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return change


for _operation in OPERATORS:
    setattr(InPlace, f"__{_operation.__name__}__", _change(_operation))


class Tracer(fx.Tracer):
    """Tracer that stops at layers of ``torch.nn`` and :mod:`snnfast.nn`, and at those of ``more`` types."""

    def __init__(self, *more: type[nn.Module]) -> None:
        super().__init__()
        self.more = more

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Return whether the tracer stops at ``module``."""
        from_package = type(module).__module__.startswith("snnfast.nn.")
        leaf = from_package or isinstance(module, (Stateful, torch.jit.ScriptModule)) or type(module) in self.more
        return leaf or super().is_leaf_module(module, name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a proxy that records changes in place."""
        return InPlace(node, self)


def place(node: fx.Node) -> str:
    """Name the function that ``node`` calls and the module whose ``forward`` calls it, for messages to users."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    where = stack[-1][0] if stack else ""
    return f"{getattr(node.target, '__name__', node.target)} in {where or 'forward'}"
