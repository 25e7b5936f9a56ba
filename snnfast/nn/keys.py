"""Wrapper layers with the state-dict keys of the layer they wrap: :func:`keys_of`."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

__all__ = ["keys_of"]


def keys_of(outer: nn.Module, name: str) -> None:
    """Remove ``name``, a module inside ``outer``, from the keys of the state dict of ``outer``.

    Files with ``name`` in their keys load, too.
    """
    outer.register_state_dict_post_hook(partial(_without, f"{name}."))
    outer.register_load_state_dict_pre_hook(partial(_with, f"{name}."))


def _without(name: str, outer: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
    start = prefix + name
    for key in [key for key in state_dict if key.startswith(start)]:
        state_dict[prefix + key[len(start) :]] = state_dict.pop(key)


def _with(name: str, outer: nn.Module, state_dict: dict[str, Any], prefix: str, *unused: Any) -> None:
    start = prefix + name
    inner = [key for key in state_dict if key.startswith(prefix) and not key.startswith(start)]
    for key in inner:
        state_dict[start + key[len(prefix) :]] = state_dict.pop(key)
