"""Surrogate gradients: replacements for the derivative of the spike.

A spike is ``s = 1 if u >= 0 else 0`` with ``u = h - v_threshold``; its derivative is zero almost everywhere. A
surrogate keeps the spike in the forward pass and uses a smooth derivative ``ds/du`` in the backward pass (Neftci,
Mostafa and Zenke 2019). All surrogates here run inside the fused kernels; ``csrc/core/surrogate.h`` holds the same
formulas. Formulas and default widths of ``atan``, ``sigmoid``, ``rectangle``, ``triangle`` and ``gaussian`` (``Erf``)
are SpikingJelly's, ``fast_sigmoid`` is snnTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnfast import check

__all__ = [
    "Surrogate",
    "atan",
    "fast_sigmoid",
    "gaussian",
    "rectangle",
    "resolve",
    "sigmoid",
    "straight_through",
    "triangle",
]


def _atan(u: Tensor, alpha: float) -> Tensor:
    return 0.5 * alpha / (1 + (math.pi / 2 * alpha * u).square())


def _exp(x: Any) -> Tensor:
    """Return ``exp(x)`` for ``x <= 0``; for a traced value the kernels' exponential, 0 below its range."""
    if isinstance(x, Tensor):
        return torch.exp(x)
    low = -708.0 if x.dtype == torch.float64 else -87.0
    return torch.where(x < low, 0.0, x.exp_nonpositive())


def _sigmoid(u: Tensor, alpha: float) -> Tensor:
    e = _exp(-alpha * u.abs())
    return alpha * e / (1 + e).square()


def _fast_sigmoid(u: Tensor, alpha: float) -> Tensor:
    return 1 / (1 + alpha * u.abs()).square()


def _rectangle(u: Tensor, alpha: float) -> Tensor:
    return torch.where(u.isnan(), u, alpha * (u.abs() < 0.5 / alpha).to(u))


def _triangle(u: Tensor, alpha: float) -> Tensor:
    return (alpha - alpha**2 * u.abs()).clamp(min=0)


def _gaussian(u: Tensor, alpha: float) -> Tensor:
    return alpha / math.sqrt(math.pi) * _exp(-(alpha * u).square())


def _straight_through(u: Tensor, alpha: float) -> Tensor:
    return torch.ones_like(u)


# In the order of csrc/core/surrogate.h; the position is the kernel's number for it.
DERIVATIVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "atan": _atan,
    "sigmoid": _sigmoid,
    "fast_sigmoid": _fast_sigmoid,
    "rectangle": _rectangle,
    "triangle": _triangle,
    "gaussian": _gaussian,
    "straight_through": _straight_through,
}
_NUMBERS = {name: number for number, name in enumerate(DERIVATIVES)}


@dataclass(frozen=True)
class Surrogate:
    """A surrogate gradient of the spike, by name and width.

    A call returns spikes with the surrogate's gradient: ``surrogate(h - v_threshold)``, any shape, floating point.

    Attributes:
        name: one of ``atan``, ``sigmoid``, ``fast_sigmoid``, ``rectangle``, ``triangle``, ``gaussian``,
            ``straight_through``.
        alpha: steepness (inverse width); positive. ``straight_through`` has none and ignores it.
    """

    name: str
    alpha: float
    in_kernels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _is_known(self.name)
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, Real):
            raise TypeError(f"surrogate: alpha must be a number, got {type(self.alpha).__name__}")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"surrogate: alpha must be positive and finite, got {self.alpha}")

    @property
    def number(self) -> int:
        """The kernels' number for it."""
        return _NUMBERS[self.name]

    def derivative(self, u: Tensor) -> Tensor:
        """Return ``ds/du`` at ``u``, in plain PyTorch."""
        return DERIVATIVES[self.name](u, self.alpha)

    def __call__(self, u: Tensor) -> Tensor:
        """Return spikes ``u >= 0`` in ``u``'s dtype, with the surrogate's gradient."""
        return spike(u, self)


def _is_known(name: str) -> None:
    if name not in DERIVATIVES:
        raise ValueError(
            f"surrogate: name must be one of {', '.join(DERIVATIVES)}, got {name!r}"
            f"{check.suggestion(name, DERIVATIVES)}"
        )


def spike(u: Tensor, surrogate: Any) -> Tensor:
    """Return spikes ``u >= 0`` in ``u``'s dtype, with the gradient ``surrogate.derivative(u)``."""
    spikes: Tensor = differentiable(_Spike)(u, surrogate)
    return spikes


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: Any) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(u), None


def differentiable(function: Any) -> Callable[..., Any]:
    """Return ``function.apply``; inside of ``torch.func`` transforms, that of a variant with ``setup_context``.

    The variant costs 20 us more per call. ``function`` must treat samples of ``vmap`` independently, and save only
    inputs.
    """
    transformed = torch._C._are_functorch_transforms_active()
    return (_transformed(function) if transformed else function).apply  # type: ignore[no-any-return]


@cache
def _transformed(function: Any) -> Any:
    class Transformed(function):  # type: ignore[misc]
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs: Any) -> Any:
            return function.forward(_Unsaved(), *inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            function.forward(ctx, *inputs)

    return Transformed


class _Unsaved:
    """A context that saves no tensors."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        pass


def atan(alpha: float = 2.0) -> Surrogate:
    """``ds/du = (alpha / 2) / (1 + (pi/2 alpha u)^2)`` (Fang et al. 2021, PLIF)."""
    return Surrogate("atan", alpha)


def sigmoid(alpha: float = 4.0) -> Surrogate:
    """``ds/du = alpha sigma(alpha u) (1 - sigma(alpha u))``."""
    return Surrogate("sigmoid", alpha)


def fast_sigmoid(alpha: float = 25.0) -> Surrogate:
    """``ds/du = 1 / (1 + alpha |u|)^2`` (Zenke and Ganguli 2018, SuperSpike)."""
    return Surrogate("fast_sigmoid", alpha)


def rectangle(alpha: float = 1.0) -> Surrogate:
    """``ds/du = alpha where |u| < 1 / (2 alpha), else 0`` (Wu et al. 2018, h1 with a = 1 / alpha)."""
    return Surrogate("rectangle", alpha)


def triangle(alpha: float = 1.0) -> Surrogate:
    """``ds/du = max(0, alpha - alpha^2 |u|)`` (Bellec et al. 2018)."""
    return Surrogate("triangle", alpha)


def gaussian(alpha: float = 2.0) -> Surrogate:
    """``ds/du = alpha / sqrt(pi) exp(-(alpha u)^2)`` (Yin, Corradi and Bohte 2021)."""
    return Surrogate("gaussian", alpha)


def straight_through() -> Surrogate:
    """``ds/du = 1`` (Bengio, Leonard and Courville 2013)."""
    return Surrogate("straight_through", 1.0)


_DEFAULTS = {
    default.name: default
    for default in (*(atan(), sigmoid(), fast_sigmoid(), rectangle(), triangle(), gaussian()), straight_through())
}


def numbered(number: int, alpha: float) -> Surrogate:
    """Return the surrogate that has this ``number`` in the kernels."""
    return Surrogate(list(DERIVATIVES)[number], alpha)


SurrogateLike = str | Surrogate | Callable[[Tensor], Tensor]


def resolve(surrogate: SurrogateLike) -> Surrogate | Callable[[Tensor], Tensor]:
    """Return the ``Surrogate`` of a name, with the default width; return any other callable unchanged.

    Args:
        surrogate: a name, a :class:`Surrogate`, or a callable that maps ``u`` to spikes and defines its gradient,
            which runs on the reference backend.

    Raises:
        TypeError, ValueError: for an unknown name, and for anything that is not a surrogate.
    """
    if isinstance(surrogate, str):
        if surrogate not in _DEFAULTS:  # checked here: a function call would slow down small ops
            _is_known(surrogate)
        return _DEFAULTS[surrogate]
    if isinstance(surrogate, Surrogate):
        return surrogate
    if callable(surrogate):
        if getattr(surrogate, "__module__", None) == __name__:
            name = surrogate.__name__
            raise TypeError(f"surrogate: expected {name}(...), got the function {name} itself")
        return surrogate
    raise TypeError(
        "surrogate: expected a name, a snnfast.surrogate.Surrogate or a callable u -> spikes, "
        f"got {type(surrogate).__name__}"
    )


def __dir__() -> list[str]:
    return __all__
