"""Hooks of PyTorch on a module, and a ``forward`` set on an instance."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .state import Memo

__all__ = [
    "HOOKS",
    "counts_steps",
    "has_own_forward",
    "hooked",
    "hooks",
    "refuse_own_forward",
    "sees_every_step",
    "take_hooks",
]

# Attributes in which a module stores its hooks,
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# and those with the options of these hooks.
_CALLED = (
    *("_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks_with_kwargs", "_is_full_backward_hook"),
)


def hooks(module: nn.Module) -> Iterator[Any]:
    """Yield the hooks of ``module``."""
    for attribute in HOOKS:
        yield from getattr(module, attribute).values()


def hooked(module: nn.Module) -> bool:
    """Return whether ``module`` has hooks."""
    # Not any(hooks(module)): a hook that records may be a list, and false while it is empty.
    return any(True for _ in hooks(module))


def counts_steps(hook: Any) -> bool:
    """Return whether ``hook`` only observes, and accepts one step in place of several equal ones, as a monitor's."""
    return bool(getattr(hook, "counts_steps", False))


def sees_every_step(module: nn.Module) -> bool:
    """Return whether ``module`` has hooks that expect to see every step."""
    return not all(map(counts_steps, hooks(module)))


def has_own_forward(module: nn.Module) -> bool:
    """Return whether ``forward`` was set on the instance, as adapters and profilers do; TorchScript always does."""
    return "forward" in vars(module) and not isinstance(module, torch.jit.ScriptModule)


def refuse_own_forward(function: str, net: nn.Module) -> None:
    """Refuse modules whose ``forward`` was set on the instance: in a copy it would call the layers of ``net``.

    Raises:
        ValueError: with the name of the module; ``function`` is the caller.
    """
    for name, module in net.named_modules():
        if has_own_forward(module):
            raise ValueError(
                f"{function}: {name or 'net'}, a {type(module).__name__}, has a forward of its own, set on the "
                "instance, which the copy would lose or take from net; remove it, and set it on the copy"
            )


def take_hooks(replacement: nn.Module, original: nn.Module, memo: Memo) -> nn.Module:
    """Return ``replacement`` with copies of the hooks of ``original``; ``memo``: deepcopy memo of the network."""
    replacement.__dict__.update({name: copy.deepcopy(original.__dict__[name], memo) for name in (*HOOKS, *_CALLED)})
    return replacement
