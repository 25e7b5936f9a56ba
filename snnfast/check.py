"""Argument checks of the ops, the same for every backend: each error names op, argument, what was expected and came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of state and sums for input of ``dtype``: float64 stays, everything narrower is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sequence(op: str, x: Tensor) -> None:
    """``x`` must be a floating-point tensor ``[T, ...]``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: x must be a tensor, got {type(x).__name__}")
    if x.dtype not in FLOATING:
        names = ", ".join(str(d).removeprefix("torch.") for d in FLOATING)
        raise TypeError(f"{op}: x must have one of the dtypes {names}, got {x.dtype}")
    if x.dim() == 0:
        raise ValueError(f"{op}: x must have shape [T, ...], got a tensor without dimensions")


def state(op: str, name: str, value: Tensor | None, x: Tensor) -> None:
    """A state must have ``x``'s shape without time, its device, and the state dtype of ``x``."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor or None, got {type(value).__name__}")
    if value.shape != x.shape[1:]:
        raise ValueError(
            f"{op}: {name} must have shape x.shape[1:] = {list(x.shape[1:])}, got {list(value.shape)}"
        )
    _like_state(op, name, value, x)


def _like_state(op: str, name: str, value: Tensor, x: Tensor) -> None:
    if value.dtype != state_dtype(x.dtype):
        raise TypeError(
            f"{op}: {name} must have dtype {state_dtype(x.dtype)} for x of dtype {x.dtype}, got {value.dtype}"
        )
    if value.device != x.device:
        raise ValueError(f"{op}: {name} must be on the device of x, {x.device}, got {value.device}")


def number(op: str, name: str, value: object) -> float:
    """A finite real number."""
    # float first: to ask an abstract class takes longer than many a kernel.
    if isinstance(value, bool) or not isinstance(value, (float, Real)):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    result = float(value)
    # Not math.isfinite, which breaks the graph of torch.compile(dynamic=True).
    if not -math.inf < result < math.inf:
        raise ValueError(f"{op}: {name} must be finite, got {result}")
    return result


def parameter(op: str, name: str, value: object, x: Tensor) -> float | Tensor:
    """A number, or a tensor that broadcasts over the neurons ``x.shape[1:]``; its values are not looked at."""
    if not isinstance(value, Tensor):
        return number(op, name, value)
    neurons = x.shape[1:]
    shape = (1,) * (len(neurons) - value.dim()) + tuple(value.shape)
    if value.dim() > len(neurons) or any(p not in (1, n) for p, n in zip(shape, neurons)):
        raise ValueError(
            f"{op}: {name} must be a number or broadcast to x.shape[1:] = {list(neurons)}, "
            f"got shape {list(value.shape)}"
        )
    _like_state(op, name, value, x)
    return value


def decay(
    op: str, name: str, tau: object, decay: object, default_tau: float, x: Tensor
) -> float | Tensor:
    """The decay per step from ``tau`` (steps, ``decay = 1 - 1/tau``) or from ``decay``; not from both."""
    tau_name = name.replace("decay", "tau")
    if tau is not None and decay is not None:
        raise ValueError(f"{op}: give {tau_name} or {name}, not both")
    if decay is not None:
        result = parameter(op, name, decay, x)
        if not isinstance(result, Tensor) and not 0 <= result <= 1:
            raise ValueError(f"{op}: {name} must lie in [0, 1], got {result}")
        return result
    time_constant = parameter(op, tau_name, default_tau if tau is None else tau, x)
    if not isinstance(time_constant, Tensor) and not time_constant >= 1:
        raise ValueError(f"{op}: {tau_name} must be at least 1 step, got {time_constant}")
    return 1.0 - 1.0 / time_constant


def rest(
    op: str, v_reset: object, v_rest: object, x: Tensor
) -> tuple[float | Tensor | None, float | Tensor]:
    """Reset and resting potential; without ``v_rest`` the membrane rests at ``v_reset``, or at 0."""
    reset = None if v_reset is None else parameter(op, "v_reset", v_reset, x)
    if v_rest is None:
        return reset, 0.0 if reset is None else reset
    return reset, parameter(op, "v_rest", v_rest, x)


def positive(op: str, name: str, value: object) -> float:
    """A finite number above 0."""
    result = number(op, name, value)
    if result <= 0:
        raise ValueError(f"{op}: {name} must be positive, got {result:g}")
    return result


def at_least_zero(op: str, name: str, value: object) -> float:
    """A finite number, 0 or more."""
    result = number(op, name, value)
    if result < 0:
        raise ValueError(f"{op}: {name} must be at least 0, got {result:g}")
    return result


def like(op: str, name: str, value: object, expected: Tensor, device: torch.device) -> None:
    """A tensor with the shape and dtype of ``expected``, on ``device``, which is w's."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if value.shape != expected.shape:
        raise ValueError(
            f"{op}: {name} must have shape {list(expected.shape)}, got {list(value.shape)}"
        )
    if value.dtype != expected.dtype:
        raise TypeError(f"{op}: {name} must have dtype {expected.dtype}, got {value.dtype}")
    if value.device != device:
        raise ValueError(f"{op}: {name} must be on the device of w, {device}, got {value.device}")


def whole(op: str, name: str, value: object, least: int = 1) -> int:
    """An integer, ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{op}: {name} must be an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{op}: {name} must be at least {least}, got {value}")
    return value


def sizes(op: str, name: str, values: object, count: int | None = None) -> tuple[int, ...]:
    """A sequence of integers from 1 on, ``count`` of them if given."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"{op}: {name} must be a sequence of integers, got {type(values).__name__}")
    if count is not None and len(values) != count:
        raise ValueError(f"{op}: {name} must have {count} numbers, got {tuple(values)}")
    return tuple(whole(op, name, value) for value in values)
