"""``spikingjelly.clock_driven.base``: modules that keep values between calls."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

__all__ = ["MemoryModule"]


class MemoryModule(nn.Module):
    """A module whose memories are attributes, and begin anew at :meth:`reset`."""

    def __init__(self) -> None:
        super().__init__()
        self._memories_rv: dict[str, Any] = {}

    def register_memory(self, name: str, value: Any) -> None:
        """Add the memory ``name``, whose value is ``value`` until it is set, and after a reset."""
        if hasattr(self, name):
            raise AttributeError(f"register_memory: a {type(self).__name__} has {name} already")
        self.set_reset_value(name, value)
        setattr(self, name, value)

    def set_reset_value(self, name: str, value: Any) -> None:
        """Set the value that the memory ``name`` has after a reset."""
        self._memories_rv[name] = copy.deepcopy(value)

    def reset(self) -> None:
        """Give every memory the value of its reset."""
        for name, value in self._memories_rv.items():
            setattr(self, name, copy.deepcopy(value))

    def detach(self) -> None:
        """Keep the values of the memories, and drop their graph."""
        for name in self._memories_rv:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                setattr(self, name, value.detach())
