"""The tracer of ``torch.fx`` that stops at this package's layers."""

from __future__ import annotations

from torch import fx, nn

from .pooled import Pooled, PooledSequential
from .state import Stateful

__all__ = ["Tracer", "place"]


class Tracer(fx.Tracer):
    """Takes a network apart into the layers of ``torch.nn`` and :mod:`snnfast.nn`, and those of ``more`` types."""

    def __init__(self, *more: type[nn.Module]) -> None:
        super().__init__()
        self.more = more

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Whether the tracer looks no deeper."""
        own = type(module).__module__.startswith("snnfast.nn.")
        own = own and not isinstance(module, (Pooled, PooledSequential))
        leaf = own or isinstance(module, (Stateful, *self.more))
        return leaf or super().is_leaf_module(module, name)


def place(node: fx.Node) -> str:
    """What ``node`` calls, and the module whose ``forward`` calls it, as a reader of the network would say it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    where = stack[-1][0] if stack else ""
    return f"{getattr(node.target, '__name__', node.target)} in {where or 'forward'}"
