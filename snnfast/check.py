"""Argument checks of the ops, the same for every backend: errors name op, argument, expected and actual value."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SPIKE_DTYPES = (torch.bool, torch.uint8, *FLOATING)
REAL = (*FLOATING, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
INTEGERS = (int, torch.SymInt, Integral)
MOST_ELEMENTS = 2**56  # of a tensor; csrc/ops/check.h
LARGEST = 3.4028234663852886e38  # of float32, in which most kernels take their numbers
LEAST = 1.1754943508222875e-38  # of float32: the least positive number that is not denormal

Function = TypeVar("Function", bound=Callable[..., Any])


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of states and sums for input of ``dtype``: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_recorded(device: torch.device) -> bool:
    """Return whether values cannot be read: calls are recorded for replay, under ``torch.vmap``, or on fake tensors."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None
        or (device.type == "cuda" and torch.cuda.is_current_stream_capturing())
    )


def reads_values(validate: object, device: torch.device) -> bool:
    """Return whether a call reads values, which waits for a GPU: with ``validate``, and where values can be read.

    A CUDA graph therefore records every op with its default arguments; the warm-up calls before it check the values.
    Tensors on the device "meta" have no values.
    """
    return bool(validate) and not is_recorded(device) and device.type != "meta"


def suggestion(name: object, known: Iterable[str], prefix: str = "") -> str:
    """Return a question with the name among ``known`` that is most like ``name``, or "" if none is like it."""
    names = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(str(name).casefold(), names, 1) if isinstance(name, str) else []
    return f"; did you mean {prefix + names[found[0]]!r}?" if found else ""


def refuse_unknown(op: str, function: Callable[..., Any] | inspect.Signature, keywords: Iterable[str]) -> None:
    """Raise if ``function`` lacks one of the ``keywords``, with the nearest name; for calls that raised a TypeError."""
    known = (function if isinstance(function, inspect.Signature) else inspect.signature(function)).parameters
    if any(p.kind == p.VAR_KEYWORD for p in known.values()):
        return
    names = [name for name, p in known.items() if p.kind != p.POSITIONAL_ONLY and name != "self"]
    for name in keywords:
        if name not in names:
            hint = suggestion(name, names) or f"; its arguments are {', '.join(names) or 'none'}"
            raise TypeError(f"{op}: there is no argument {name!r}{hint}") from None


def keywords(function: Function) -> Function:
    """Decorate a function: the error of a keyword argument that it lacks has the nearest name."""

    @functools.wraps(function)
    def call(*arguments: Any, **words: Any) -> Any:
        try:
            return function(*arguments, **words)
        except TypeError:
            refuse_unknown(function.__name__, function, words)
            raise

    return cast("Function", call)


def keywords_of_classes(names: Iterable[object]) -> None:
    """Replace the constructors of the package's classes among ``names``, as :func:`keywords` does for a function."""
    for public in names:
        for cls in public.__mro__ if isinstance(public, type) else ():
            constructor = vars(cls).get("__init__")
            if cls.__module__.startswith("snnfast") and constructor and not hasattr(constructor, "__wrapped__"):
                cls.__init__ = _constructor(constructor)  # type: ignore[misc]


def _constructor(constructor: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(constructor)
    def construct(self: Any, *arguments: Any, **words: Any) -> None:
        try:
            constructor(self, *arguments, **words)
        except TypeError:
            refuse_unknown(type(self).__name__, constructor, words)
            raise

    return construct


def moved(package: str, name: str, homes: Mapping[str, str]) -> Any:
    """Return attribute ``name`` of ``package`` from the module that ``homes`` names, which may be on a higher level.

    Raises:
        AttributeError: ``homes`` has no such name.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and point to the line that called the package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(("snnfast.", "snnfast_zoo.")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def tensor(op: str, name: str, value: object) -> None:
    """Require a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {kind(value)}")
    dense(op, name, value)


def dense(op: str, name: str, value: Tensor) -> None:
    """Require a dense tensor: neither sparse nor nested."""
    if value.layout is not torch.strided or value.is_nested:
        got = "a nested one" if value.is_nested else value.layout
        raise TypeError(f"{op}: {name} must be a dense tensor, got {got}")


def dtype(op: str, name: str, value: torch.dtype, allowed: Sequence[torch.dtype]) -> None:
    """Require one of the ``allowed`` dtypes for the tensor ``name``."""
    if value not in allowed:
        wanted = "dtype" if len(allowed) == 1 else "one of the dtypes"
        raise TypeError(f"{op}: {name} must have {wanted} {dtype_names(allowed)}, got {value}")


def shape(op: str, name: str, value: object, *allowed: Sequence[int | str]) -> None:
    """Require a tensor with one of the ``allowed`` shapes, in which a word stands for any size."""
    tensor(op, name, value)
    got = value.shape  # type: ignore[attr-defined]
    for sizes in allowed:
        if len(got) == len(sizes):
            for size, wanted in zip(got, sizes):  # any() takes three times as long
                if not isinstance(wanted, str) and size != wanted:
                    break
            else:
                return
    shapes = " or ".join(f"[{', '.join(map(str, sizes))}]" for sizes in allowed)
    raise ValueError(f"{op}: {name} must have shape {shapes}, got {list(got)}")


def on_device(op: str, name: str, value: Tensor, other: str, device: torch.device) -> None:
    """Require a tensor on ``device``, that of the argument ``other``."""
    if value.device != device:
        raise ValueError(f"{op}: {name} must be on the device of {other}, {device}, got {value.device}")


def same_dtype_and_device(op: str, name: str, value: Tensor, other: str, like: Tensor) -> None:
    """Require the dtype and the device of ``like``, the argument ``other``."""
    if value.dtype != like.dtype:
        raise TypeError(f"{op}: {name} must have the dtype of {other}, {like.dtype}, got {value.dtype}")
    on_device(op, name, value, other, like.device)


def spike_dtype(op: str, value: object) -> None:
    """Require a dtype of spikes for the argument ``dtype``."""
    if not isinstance(value, torch.dtype) or value not in SPIKE_DTYPES:
        raise TypeError(f"{op}: dtype must be one of {dtype_names(SPIKE_DTYPES)}, got {shown(value)}")


def elements(op: str, name: str, shape: Sequence[int]) -> None:
    """Require a shape whose elements can be addressed; errors name the argument ``name`` that decides the shape."""
    if not torch.compiler.is_compiling() and math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"{op}: {name} is too large: a tensor of shape {list(shape)} has more than 2**56 elements")


def generator(op: str, value: object) -> None:
    """Require a generator of random numbers, or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(f"{op}: generator must be a torch.Generator or None, got {type(value).__name__}")


def sequence(op: str, x: Tensor, also: Sequence[torch.dtype] = ()) -> None:
    """Require a floating-point tensor ``x`` ``[T, ...]``, or one of the dtypes ``also``."""
    tensor(op, "x", x)
    if x.dtype not in FLOATING and x.dtype not in also:
        way_out = "" if x.is_complex() else "; give x.float()"
        raise TypeError(f"{op}: x must have one of the dtypes {dtype_names(FLOATING)}, got {x.dtype}{way_out}")
    if x.dim() == 0:
        raise ValueError(f"{op}: x must have shape [T, ...], got a tensor without dimensions")
    elements(op, "x", x.shape)


def state(op: str, name: str, value: Tensor | None, x: Tensor) -> None:
    """Require None or a state with the shape of ``x`` without time, the device and the state dtype of ``x``."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor or None, got {type(value).__name__}")
    dense(op, name, value)
    if value.shape != x.shape[1:]:
        raise ValueError(f"{op}: {name} must have shape x.shape[1:] = {list(x.shape[1:])}, got {list(value.shape)}")
    of_state(op, name, value, x)


def of_state(op: str, name: str, value: Tensor, x: Tensor) -> None:
    """Require the state dtype and the device of ``x``."""
    if value.dtype != state_dtype(x.dtype):
        raise TypeError(
            f"{op}: {name} must have dtype {state_dtype(x.dtype)} for x of dtype {x.dtype}, got {value.dtype}"
        )
    on_device(op, name, value, "x", x.device)


def number(op: str, name: str, value: object) -> float:
    """Require a finite real number in the range of float32."""
    # float first: a check against an abstract class takes longer than many kernels.
    if type(value) is float and -LARGEST <= value <= LARGEST:
        return value
    if isinstance(value, bool) or not isinstance(value, (float, Real)):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError(f"{op}: {name} must be finite, got {shown(value)}") from None
    # Not math.isfinite, which breaks the graph of torch.compile(dynamic=True).
    if not -math.inf < result < math.inf:
        raise ValueError(f"{op}: {name} must be finite, got {result}")
    if not -LARGEST <= result <= LARGEST:
        raise ValueError(f"{op}: {name} must lie within the range of float32, got {result:g}")
    return result


def parameter(
    op: str, name: str, value: object, x: Tensor, checked: Callable[[str, str, object], float] = number
) -> float | Tensor:
    """Require a number that passes ``checked``, or a tensor that broadcasts over the neurons ``x.shape[1:]``.

    The values of a tensor are not read.
    """
    if type(value) is float or not isinstance(value, Tensor):
        return checked(op, name, value)
    dense(op, name, value)
    neurons = x.shape[1:]
    shape = (1,) * (len(neurons) - value.dim()) + tuple(value.shape)
    if value.dim() > len(neurons) or any(p != 1 and p != n for p, n in zip(shape, neurons)):
        raise ValueError(
            f"{op}: {name} must be a number or broadcast to x.shape[1:] = {list(neurons)}, "
            f"got shape {list(value.shape)}"
        )
    of_state(op, name, value, x)
    return value


class Leak(NamedTuple):
    """Decay factor of a state per step, and ``known``, its leak rate; None if the user gave ``decay``."""

    decay: float | Tensor
    known: float | Tensor | None = None

    @property
    def rate(self) -> float | Tensor:
        """Leak rate per step, ``1/tau``. In float32 ``1 - decay`` has few significant digits if ``tau`` is large."""
        return 1.0 - self.decay if self.known is None else self.known


def leak(op: str, name: str, tau: object, decay: object, default_tau: float, x: Tensor) -> Leak:
    """Return the leak of ``tau`` (steps, ``decay = 1 - 1/tau``) or of ``decay``; not of both."""
    if tau is None:
        if decay is None:
            return Leak(1.0 - 1.0 / default_tau, 1.0 / default_tau)
        if type(decay) is float and 0.0 <= decay <= 1.0:
            return Leak(decay)
        result = parameter(op, name, decay, x)
        if not isinstance(result, Tensor) and not 0 <= result <= 1:
            raise ValueError(f"{op}: {name} must lie in [0, 1], got {result}")
        return Leak(result)
    tau_name = name.replace("decay", "tau")
    if decay is not None:
        raise ValueError(f"{op}: give {tau_name} or {name}, not both")
    time_constant = parameter(op, tau_name, tau, x)
    if isinstance(time_constant, Tensor):
        rate = time_constant.reciprocal()  # a number over a tensor takes two operations
        return Leak(torch.rsub(rate, 1.0), rate)
    if not time_constant >= 1:
        raise ValueError(f"{op}: {tau_name} must be at least 1 step, got {time_constant}")
    return Leak(1.0 - 1.0 / time_constant, 1.0 / time_constant)


def positive(op: str, name: str, value: object) -> float:
    """Require a finite number above 0, also in float32."""
    result = number(op, name, value)
    if result <= 0:
        raise ValueError(f"{op}: {name} must be positive, got {result:g}")
    if result < LEAST:  # 0 for a kernel that flushes denormal numbers
        raise ValueError(f"{op}: {name} must lie within the range of float32, got {result:g}")
    return result


def not_zero(op: str, name: str, value: object) -> float:
    """Require a finite number that is not 0."""
    result = number(op, name, value)
    if result == 0:
        raise ValueError(f"{op}: {name} must not be 0, got {result:g}")
    return result


def at_least_zero(op: str, name: str, value: object) -> float:
    """Require a finite number, 0 or more."""
    result = number(op, name, value)
    if result < 0:
        raise ValueError(f"{op}: {name} must be at least 0, got {result:g}")
    return result


def setting(
    op: str, name: str, value: object, networks: int | None, checked: Callable[[str, str, object], float]
) -> float | list[float]:
    """Require a number that passes ``checked``, or a sequence of one for each of several networks."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return checked(op, name, value)
    if networks is None:
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    if len(value) != networks:
        raise ValueError(f"{op}: {name} must be a number or {networks}, one a network, got {len(value)}")
    return [checked(op, f"{name}[{k}]", item) for k, item in enumerate(value)]


def tensor_of(
    op: str, name: str, value: Any, sizes: Sequence[int], dtype: torch.dtype, device: torch.device, other: str = "w"
) -> None:
    """Require a tensor of these sizes and this dtype on ``device``, that of the argument ``other``."""
    shape(op, name, value, sizes)
    if value.dtype != dtype:
        raise TypeError(f"{op}: {name} must have dtype {dtype}, got {value.dtype}")
    on_device(op, name, value, other, device)


def integer(op: str, name: str, value: object, least: int = 1, most: int = 2**63 - 1) -> int:
    """Require an integer of 64 bits, ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, INTEGERS):
        raise TypeError(f"{op}: {name} must be an integer, got {type(value).__name__}")
    value = value if isinstance(value, (int, torch.SymInt)) else int(value)
    if not least <= value <= most:
        bound = f"at least {least}" if value < least else "less than 2**63" if most == 2**63 - 1 else f"at most {most}"
        raise ValueError(f"{op}: {name} must be {bound}, got {shown(value)}")
    return value  # type: ignore[return-value]


def shown(value: object) -> str:
    """Return the text of a value for errors; of a very long one, the beginning."""
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:20]}... ({len(text)} characters)"


def kind(value: object) -> str:
    """Describe a value of a wrong type for an error message. A class in place of an object often lacks its ``()``."""
    if isinstance(value, type):
        return f"the class {value.__name__}, not an instance of it"
    return type(value).__name__


def module(op: str, name: str, value: object) -> None:
    """Require a module."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{op}: {name} must be a module, got {kind(value)}")


def labels(op: str, name: str, value: object) -> Tensor:
    """Require a class, or a tensor ``[B]`` of classes; return int64."""
    if not isinstance(value, Tensor):
        return torch.tensor(integer(op, name, value, -(2**63)))
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool or value.dim() > 1:
        raise TypeError(
            f"{op}: {name} must be a class or a tensor [B] of integers, got {list(value.shape)} of {value.dtype}"
        )
    return value.long()


def sizes(op: str, name: str, values: object, count: int | None = None) -> tuple[int, ...]:
    """Require a sequence of positive integers, ``count`` of them unless that is None."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"{op}: {name} must be a sequence of integers, got {type(values).__name__}")
    if count is not None and len(values) != count:
        raise ValueError(f"{op}: {name} must have {count} numbers, got {tuple(values)}")
    return tuple(integer(op, name, value) for value in values)


def in_range(op: str, name: str, values: Tensor, low: float, high: float, unit: str = "") -> None:
    """Require all values in [low, high], which NaN is not, if they can be read."""
    if not values.numel() or not reads_values(True, values.device):
        return
    smallest, largest = values.aminmax()
    if not ((smallest >= low) & (largest <= high)):
        allowed = f"lie in [{low:g}, {high:g}]{unit}" if high < math.inf else f"be at least {low:g}{unit} and not NaN"
        raise ValueError(f"{op}: {name} must {allowed}, got values from {smallest.item():g} to {largest.item():g}")


def dtype_names(dtypes: Sequence[torch.dtype]) -> str:
    """Return a list of dtypes for errors: ``float32, float64``."""
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)


def finite(op: str, name: str, values: Tensor) -> None:
    """Require values that are neither NaN nor infinite, if they can be read."""
    if not reads_values(True, values.device):
        return
    values = values.detach()
    # A sum is quicker, but may be infinite where values are large.
    if not math.isfinite(values.sum()) and not bool(values.isfinite().all()):
        raise ValueError(f"{op}: {name} must be finite, got NaN or infinity")


def flag(op: str, name: str, value: object) -> bool:
    """Require True or False, and no other value that counts as one."""
    if not isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be True or False, got {shown(value)}")
    return value


def choice(op: str, name: str, value: object, choices: Sequence[str]) -> None:
    """Require one of the ``choices``."""
    if value not in choices:
        raise ValueError(f"{op}: {name} must be {' or '.join(choices)}, got {shown(value)}")


def weights(op: str, name: str, w: Tensor, *shapes: Sequence[int | str]) -> None:
    """Require float32 or float64, one of these shapes, and no overlap in memory, for changes in place."""
    tensor(op, name, w)
    if w.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{op}: {name} must have dtype float32 or float64, got {w.dtype}")
    shape(op, name, w, *shapes)
    separate(op, name, w)


def spikes(op: str, name: str, value: Tensor, sizes: Sequence[int | str], w: Tensor) -> None:
    """Require spikes on the device of the weights; a word in ``sizes`` stands for any size."""
    tensor(op, name, value)
    dtype(op, name, value.dtype, SPIKE_DTYPES)
    shape(op, name, value, sizes)
    on_device(op, name, value, "w", w.device)


def separate(op: str, name: str, value: Tensor) -> None:
    """Require a tensor whose elements do not overlap in memory."""
    if value.is_contiguous():
        return
    reach, strides = 0, sorted((s, n) for s, n in zip(value.stride(), value.shape) if n > 1)
    for stride, size in strides:
        if stride <= reach:
            break
        reach += (size - 1) * stride
    else:
        return
    # Whether strides with a common reach overlap depends on all positions. Compiled code has no values to mark.
    if strides[0][0] > 0:
        if torch.compiler.is_compiling():
            return
        marked = torch.zeros(1 + sum((n - 1) * s for s, n in strides), dtype=torch.bool)
        marked.as_strided(value.shape, value.stride()).fill_(True)
        if int(marked.sum()) == value.numel():
            return
    raise ValueError(f"{op}: {name} must not overlap itself, got strides {list(value.stride())}")


def overlap(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors of one dtype share an element in memory, as far as that is known without data."""
    if a is b:
        return a.numel() > 0
    if (
        torch.compiler.is_compiling()
        or a.untyped_storage()._cdata != b.untyped_storage()._cdata
        or not (a.numel() and b.numel())
    ):
        return False
    (a_first, a_last), (b_first, b_last) = _extent(a), _extent(b)
    if a_last < b_first or b_last < a_first:
        return False
    marked = torch.zeros(max(a_last, b_last) + 1, dtype=torch.bool)
    marked.as_strided(a.shape, a.stride(), a_first).fill_(True)
    return bool(marked.as_strided(b.shape, b.stride(), b_first).any())


def _extent(t: Tensor) -> tuple[int, int]:
    first = int(t.storage_offset())
    return first, first + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride()))
