"""exp, log, sin, cos, sigmoid and tanh by arithmetic alone, so that PyTorch and generated kernels round alike.

Each takes a tensor in float32 or float64, or a traced value (:class:`snnfast.compiler.expression.Node`); the error is
at most 4 units in the last place. PyTorch's functions round differently on different processors.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .exp import exp_nonpositive, exp_saturating

__all__ = ["cos", "exp", "log", "sigmoid", "sin", "tanh"]


def _mantissa_and_exponent(x: Any) -> tuple[Any, Any]:
    """Split a positive normal number ``x = mantissa * 2**exponent``, with a mantissa in [0.5, 1)."""
    if isinstance(x, Tensor):
        mantissa, exponent = torch.frexp(x)
        return mantissa, exponent.to(x.dtype)
    return x.mantissa(), x.exponent()


def _polynomial(x: Any, coefficients: list[float]) -> Any:
    """Evaluate a polynomial by Horner's rule; the constant comes last."""
    result: Any = coefficients[0]
    for c in coefficients[1:]:
        result = result * x + c
    return result


def _double(x: Any) -> bool:
    return x.dtype == torch.float64  # type: ignore[no-any-return]


class _Log(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        denormal = x < (2.2250738585072014e-308 if _double(x) else 1.1754943508222875e-38)
        m, e = _mantissa_and_exponent(torch.where(denormal, x * 2.0**54, x))
        e = torch.where(denormal, e - 54, e)
        low = m < math.sqrt(0.5)
        m, e = torch.where(low, m + m, m), torch.where(low, e - 1, e)
        f = m - 1
        s = f / (2 + f)
        terms = 12 if _double(x) else 6
        near = s * _polynomial(s * s, [2 / (2 * k + 1) for k in reversed(range(terms))])
        high, rest = (
            (6.93147180369123816490e-01, 1.90821492927058770002e-10) if _double(x) else (0.693145752, 1.42860677e-6)
        )
        result = e * high + (near + e * rest)
        below = torch.where(x == 0, -math.inf, math.nan)
        return torch.where(x > 0, torch.where(x < math.inf, result, x), below)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad / x


# pi / 2 in three parts, of which the first two have few bits (Cody and Waite; the numbers are those of Cephes).
_QUARTER_TURN = {
    True: (1.57079625129699707031, 7.54978941586159635336e-8, 5.39030285815811905290e-15),
    False: (1.5703125, 4.837512969970703125e-4, 7.54978995489188216e-8),
}


def _sin_and_cos(x: Any) -> tuple[Any, Any]:
    """Compute sine and cosine; accurate for ``|x|`` below 8,192 in float32, below 1e9 in float64."""
    a, b, c = _QUARTER_TURN[_double(x)]
    n = torch.round(x * (2 / math.pi))
    r = ((x - n * a) - n * b) - n * c
    z = r * r
    degree = 8 if _double(x) else 4
    sines = [(-1) ** k / math.factorial(2 * k + 1) for k in reversed(range(1, degree + 1))]
    cosines = [(-1) ** k / math.factorial(2 * k) for k in reversed(range(2, degree + 2))]
    sine = r + r * (z * _polynomial(z, sines))
    cosine = 1 - (0.5 * z - z * z * _polynomial(z, cosines))
    quadrant = n - 4 * torch.floor(n * 0.25)
    swapped = (quadrant == 1) | (quadrant == 3)
    sin_r, cos_r = torch.where(swapped, cosine, sine), torch.where(swapped, sine, cosine)
    return (torch.where(quadrant >= 2, -sin_r, sin_r), torch.where((quadrant == 1) | (quadrant == 2), -cos_r, cos_r))


class _Sin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return _sin_and_cos(x)[0]

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad * _sin_and_cos(x)[1]


class _Cos(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return _sin_and_cos(x)[1]

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return -grad * _sin_and_cos(x)[0]


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        e = exp_nonpositive(-torch.abs(x))
        result = torch.where(x < 0, e, 1.0) / (1 + e)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grad * ((1 - y) * y)


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        u = -2 * torch.abs(x)
        # exp(u) - 1, which would cancel near 0
        degree = 13 if _double(x) else 7
        near = u * _polynomial(u, [1 / math.factorial(k) for k in reversed(range(1, degree + 1))])
        less = torch.where(u > -0.34, near, exp_nonpositive(u) - 1)
        size = -less / (2 + less)
        result = torch.where(x < 0, -size, size)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


def exp(x: Any) -> Any:
    """``exp(x)``, at most ``e^87`` in float32 and ``e^708`` in float64, and at least their reciprocals."""
    return exp_saturating(x)


def log(x: Any) -> Any:
    """The natural logarithm; -inf of 0, NaN of negative numbers."""
    return _Log.apply(x)  # type: ignore[no-untyped-call]


def sin(x: Any) -> Any:
    """The sine; accurate for ``|x|`` below 8,192 in float32, below 1e9 in float64."""
    return _Sin.apply(x)  # type: ignore[no-untyped-call]


def cos(x: Any) -> Any:
    """The cosine; accurate where :func:`sin` is."""
    return _Cos.apply(x)  # type: ignore[no-untyped-call]


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    return _Sigmoid.apply(x)  # type: ignore[no-untyped-call]


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return _Tanh.apply(x)  # type: ignore[no-untyped-call]
