"""Channels-last images through a ``forward`` that calls ``contiguous`` between its layers: :func:`keep_format`."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snnfast.ops.autograd import traced

__all__ = ["keep_format"]

# A function takes 1.4 us longer in the mode; an element that is not copied, forward and backward, saves about 4 ns.
_ELEMENTS_A_CALL = 500


class _KeepFormat(TorchFunctionMode):
    """Mode in which ``contiguous`` of channels-last images copies nothing, and ``view`` reshapes.

    Attributes:
        calls: number of functions that were called.
        elements: number of elements that were not copied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.elements = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``function``, or what replaces it."""
        self.calls += 1
        if function is torch.Tensor.contiguous and len(args) == 1 and not kwargs and _is_channels_last(args[0]):
            self.elements += args[0].numel()
            return args[0]
        if function is torch.Tensor.view and not kwargs and not isinstance(args[1], torch.dtype):
            function = torch.Tensor.reshape
        return function(*args, **(kwargs or {}))


def _is_channels_last(x: Tensor) -> bool:
    """Return whether ``x`` is contiguous but for one dimension, the channels, which is the last one in memory."""
    return not x.is_contiguous() and any(x.movedim(d, -1).is_contiguous() for d in range(1, x.dim() - 1))


class _Running(threading.local):
    """Modes that this thread has entered."""

    def __init__(self) -> None:
        self.modes: list[_KeepFormat | None] = []


_RUNNING = _Running()


def _enter(module: nn.Module, arguments: Any) -> None:
    mode = None if traced() else _KeepFormat()
    if mode is not None:
        mode.__enter__()  # type: ignore[no-untyped-call]
    _RUNNING.modes.append(mode)


def _leave(module: nn.Module, arguments: Any, output: Any) -> None:
    mode = _RUNNING.modes.pop()
    if mode is not None:
        mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]


# They change no result, so that exporters may remove them.
_enter.counts_steps = _leave.counts_steps = True  # type: ignore[attr-defined]


def keep_format(net: nn.Module, copy: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Let ``net`` run in this mode if that saves more time than it takes, counted in a call of its ``copy``."""
    mode = _KeepFormat()
    try:
        with torch.no_grad(), torch.random.fork_rng(), mode:
            copy(*arguments)
    except Exception as error:  # a forward may rely on strides
        warnings.warn(
            f"accelerate: images stay contiguous, since forward does not run without its copies: {error}", stacklevel=3
        )
        return
    if mode.elements > _ELEMENTS_A_CALL * mode.calls:
        net.register_forward_pre_hook(_enter, prepend=True)
        net.register_forward_hook(_leave, always_call=True)
