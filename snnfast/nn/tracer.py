"""The tracer of ``torch.fx`` that stops at this package's layers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from .normlif import NormLIF
from .pooled import Pooled, PooledSequential
from .state import Stateful

__all__ = ["InPlace", "Tracer", "place"]


class InPlace(fx.Proxy):
    """Tells ``x += y`` from ``x = x + y``, which fx does not."""

    def __iadd__(self, other: Any) -> Any:
        return self._change(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._change(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._change(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._change(operator.itruediv, other)

    def _change(self, operation: Callable[..., Any], other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})


class Tracer(fx.Tracer):
    """Takes a network apart into the layers of ``torch.nn`` and :mod:`snnfast.nn`, and those of ``more`` types."""

    def __init__(self, *more: type[nn.Module]) -> None:
        super().__init__()
        self.more = more

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Whether the tracer looks no deeper."""
        own = type(module).__module__.startswith("snnfast.nn.")
        own = own and not isinstance(module, (NormLIF, Pooled, PooledSequential))
        leaf = (
            own
            or isinstance(module, (Stateful, torch.jit.ScriptModule))
            or type(module) in self.more
        )
        return leaf or super().is_leaf_module(module, name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A value that tells changes in place."""
        return InPlace(node, self)


def place(node: fx.Node) -> str:
    """Name the function that ``node`` calls and the module whose ``forward`` calls it, for messages to users."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    where = stack[-1][0] if stack else ""
    return f"{getattr(node.target, '__name__', node.target)} in {where or 'forward'}"
