"""A network that takes a step a call, as one that takes all steps: :func:`over_time`."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..state import Stateful
from ..time import Time

__all__ = ["over_time"]


class OverTime(nn.Sequential):
    """``nn.Sequential`` of neurons and of layers without time, for sequences ``[T, B, ...]``; with the same keys.

    Layers without time run in :class:`snnfast.nn.Time`, as many at once as follow each other.
    """

    folds_time = True  # as in Time

    def forward(self, x: Any) -> Any:
        """``[T, B, ...]`` through every layer."""
        waiting: list[nn.Module] = []
        for layer in self:
            if isinstance(layer, (Stateful, OverTime)):
                x = layer(Time(*waiting)(x) if waiting else x)
                waiting = []
            else:
                waiting.append(layer)
        return Time(*waiting)(x) if waiting else x


def over_time(name: str, module: nn.Module) -> nn.Module:
    """``module`` for sequences: neurons are told, and every ``nn.Sequential`` around them becomes another.

    Raises:
        ValueError: for another container of neurons, and for neurons that cannot.
    """
    if isinstance(module, Stateful):
        tell: Any = getattr(module, "over_time", None)
        if tell is None:
            raise ValueError(
                f"replace: {name or 'net'}, a {type(module).__name__}, already takes sequences; "
                "leave sequences=True out"
            )
        tell(name or "net")
        return module
    if not any(isinstance(inner, Stateful) for inner in module.modules()):
        return module
    if type(module) is not nn.Sequential:
        raise ValueError(
            f"replace: sequences=True takes neurons in nn.Sequential, and {name or 'net'} is a "
            f"{type(module).__name__}, which runs its steps itself"
        )
    made = OverTime()
    for key, child in module.named_children():
        made.add_module(key, over_time(f"{name}.{key}" if name else key, child))
    return made.train(module.training)
