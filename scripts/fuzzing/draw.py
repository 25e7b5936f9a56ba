"""Random arguments of the fuzzer, and checks of results and errors."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

ERRORS = (TypeError, ValueError, RuntimeError)
HALF = (torch.bfloat16, torch.float16)
GUARD = 64  # guard elements before and after a tensor, which nothing may overwrite
HUGE = (2**45, 2**62 + 2**18)  # beyond the memory of any machine; overflows a number of bytes


class Finding(Exception):  # noqa: N818
    """Raised for wrong behaviour of a case."""


class Draw(random.Random):
    """Random arguments; ``guards`` holds the memory around the tensors."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.guards: list[tuple[Tensor, int]] = []
        self.special = self.chance(0.1)  # NaN and infinities among the values
        self.out_of_range = False  # an index is out of range
        torch.manual_seed(self.getrandbits(60))

    def chance(self, p: float) -> bool:
        """Return True with probability ``p``."""
        return self.random() < p

    def guarded(self, t: Tensor) -> Tensor:
        """Return a copy of ``t`` between guard elements, which are checked after the case."""
        memory = torch.full((t.numel() + 2 * GUARD,), 1, dtype=t.dtype)
        inside = memory[GUARD : GUARD + t.numel()].view(t.shape)
        inside.copy_(t)
        self.guards.append((memory, t.numel()))
        return inside

    def check_guards(self) -> None:
        """Raise a finding if guard elements have changed."""
        for memory, size in self.guards:
            if bool((memory[:GUARD] != 1).any()) or bool((memory[GUARD + size :] != 1).any()):
                raise Finding("something was written outside of a tensor")

    def tensor(
        self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, low: float = 0.0, high: float = 1.0
    ) -> Tensor:
        """Return uniform values in a random layout."""
        return self.laid_out((torch.rand(shape, dtype=torch.float64) * (high - low) + low).to(dtype))

    def laid_out(self, t: Tensor) -> Tensor:
        """Return ``t`` in a random layout, with NaN or an infinity if the case has special values."""
        if self.special and t.numel() and t.is_floating_point():
            t = t.clone()
            t[tuple(self.randrange(n) for n in t.shape)] = self.choice((math.nan, math.inf, -math.inf))
        kind = self.randrange(6)
        if kind == 0 and t.dim() > 1:
            dims = self.sample(range(t.dim()), t.dim())
            inverse = [dims.index(d) for d in range(t.dim())]
            return self.guarded(t.permute(dims).contiguous()).permute(inverse)
        if kind == 1 and t.dim():
            return self.guarded(t.repeat_interleave(2, -1))[..., ::2]
        return self.guarded(t)

    def hostile(self, value: Any) -> Any:
        """Return an invalid replacement of ``value``, or one at an end of its range."""
        if isinstance(value, Tensor):
            t = value.detach()
            return self.choice(
                (
                    lambda: t.to(self.choice((torch.float64, torch.float32, torch.int64, torch.int8, torch.bool))),
                    lambda: t.to(torch.complex64),
                    lambda: t[None],
                    lambda: t.flatten(),
                    lambda: t[..., :0] if t.dim() else t,
                    lambda: t[1:] if t.dim() else t,
                    lambda: self.guarded(
                        torch.full_like(t, self.choice((-1, 0, 2**30)), dtype=torch.int64).to(t.dtype)
                    ),
                    lambda: self.guarded(torch.randint(-3, 9, t.shape).to(t.dtype)),
                    lambda: t.new_zeros(()),
                    lambda: torch.full_like(t, math.nan) if t.is_floating_point() else t,
                    lambda: t.new_zeros((1, 0, 3)),
                    lambda: t.to_sparse(),
                    lambda: t.new_zeros((1,) * max(t.dim(), 1)).expand(self.choice(HUGE), *(1,) * (t.dim() - 1)),
                    lambda: None,
                    lambda: 3,
                    lambda: 2.5,
                    lambda: "a",
                    lambda: [t],
                )
            )()
        if isinstance(value, bool):
            return self.choice((not value, None, "a"))
        if isinstance(value, int):
            return self.choice((-1, 0, 1, 3, *HUGE, 10**400, 2.5, "a", None))
        if isinstance(value, (list, tuple)):
            return self.choice(
                (value[:-1], [*value, *value], None, 3, "a", [None], [-1], [math.nan], [1e-46] * len(value))
            )
        others = (-1.0, 0.0, 1.0, 1e-46, 1e-300, 1e300, math.nan, math.inf, -math.inf, 10**400, "a", None, object(), 3)
        return self.choice(others)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield all tensors, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)


def readable(t: Tensor) -> bool:
    return t.layout == torch.strided and t.device.type == "cpu" and t.numel() < 10**7


def copied(value: Any) -> Any:
    """Copy every tensor that can be read; keep the others."""
    if isinstance(value, Tensor):
        same = value.detach().clone() if readable(value) else value
        return same.requires_grad_() if value.requires_grad else same
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [copied(v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def same(got: Any, want: Any, label: str, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Raise a finding unless the tensors are equal; NaN equals NaN."""
    a, b = list(tensors_in(got)), list(tensors_in(want))
    if len(a) != len(b):
        raise Finding(f"{label}: {len(a)} tensors instead of {len(b)}")
    for x, y in zip(a, b):
        if not (readable(x) and readable(y)):
            continue
        try:
            torch.testing.assert_close(x, y, rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError as error:
            raise Finding(f"{label} differs: {' '.join(str(error).split())}") from None


def tried(call: Callable[[], Any], name: str, named: tuple[str, ...], plain: bool = True) -> tuple[Any, str]:
    """Return the result and an empty string, or None and the message of a valid error."""
    try:
        return call(), ""
    except ERRORS as error:
        text = str(error)
        first = text.partition("\n")[0]
        if plain and ("INTERNAL ASSERT" in text or "API call failed" in first or len(text) > 3000):
            raise Finding(f"{name}: an error that is not for a person: {text[:300]}") from error
        words = (*named, "no memory", "can't allocate memory")  # the last is PyTorch's
        if plain and not any(word in text for word in words):
            raise Finding(f"{name}: an error that names none of {named}: {text[:300]}") from error
        return None, f"{type(error).__name__}: {first}"


def too_large(value: Any) -> bool:
    """Return whether the reference would not finish with this value."""
    if isinstance(value, (list, tuple, dict)):
        return any(too_large(v) for v in (value.values() if isinstance(value, dict) else value))
    if isinstance(value, Tensor):
        return value.numel() > 10**7
    return isinstance(value, int) and value > 10**7 and value in HUGE
