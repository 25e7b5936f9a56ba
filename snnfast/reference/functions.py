"""exp, log, sin, cos, sigmoid and tanh by arithmetic alone, so that PyTorch and generated kernels round alike.

Each takes a tensor in float32 or float64, or a traced value (:class:`snnfast.compiler.expression.Node`). PyTorch's
functions round differently on different processors. :data:`UNITS` has the largest errors. No choice by ``where`` has a
quotient on both sides: compilers would divide twice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .exp import exp_nonpositive, exponential

__all__ = ["cos", "exp", "log", "sigmoid", "sin", "tanh"]

# Largest errors in units of the last place, relative to the smallest number with the exponent of the result.
UNITS = {"exp": 2.0, "log": 3.0, "sin": 4.0, "cos": 4.0, "sigmoid": 3.0, "tanh": 6.0}


def mantissa_and_exponent(x: Any) -> tuple[Any, Any]:
    """Split a positive normal number ``x = mantissa * 2**exponent``, with a mantissa in [sqrt(1/2), sqrt(2))."""
    if not isinstance(x, Tensor):
        return x.mantissa(), x.exponent()
    mantissa, exponent = torch.frexp(x)
    low = mantissa < math.sqrt(0.5)
    return torch.where(low, mantissa + mantissa, mantissa), (exponent - low.to(exponent.dtype)).to(x.dtype)


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
        m, e = mantissa_and_exponent(torch.where(denormal, x * 2.0**54, x))
        e = torch.where(denormal, e - 54, e)
        f = m - 1
        s = f / (2 + f)
        terms = 12 if _double(x) else 6
        series = s * _polynomial(s * s, [2 / (2 * k + 1) for k in reversed(range(terms))])
        high, rest = (
            (6.93147180369123816490e-01, 1.90821492927058770002e-10) if _double(x) else (0.693145752, 1.42860677e-6)
        )
        result = e * high + (series + e * rest)
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


class _Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        result = exponential(x)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grad * y


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        size = torch.abs(x)
        e = torch.where(size > (708 if _double(x) else 87), 0.0, exp_nonpositive(-size))
        result = torch.where(x < 0, e, 1.0) / (1 + e)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grad * ((1 - y) * y)


# tanh(x) = x P(x^2) / Q(x^2) up to the x beyond which it rounds to 1: coefficients of P and Q, by rising degree, with
# the least relative error (0.2 units in the last place).
_TANH = {
    False: (
        9.02,
        [1.0, 0.133797139, 0.00349402986, 2.05833676e-05, 1.3318882e-08],
        [1.0, 0.467130303, 0.0258710552, 0.00032830835, 7.76195009e-07],
    ),
    True: (
        19.1,
        [
            *(1.0, 0.15180311979569544, 0.005974377766677351, 9.359025582186227e-05, 6.82855369968958e-07),
            *(2.4391951919420496e-09, 4.166983615835645e-12, 3.0588488644074895e-15, 7.395931175695469e-19),
            2.49281194258855e-23,
        ],
        [
            *(1.0, 0.48513645312902787, 0.03435319547635519, 0.0008280489656554832, 8.751889312182371e-06),
            *(4.461469301646849e-08, 1.1103419629597964e-10, 1.268836138977901e-13, 5.620583968053225e-17),
            6.2052565521657416e-21,
        ],
    ),
}


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        bound, above, below = _TANH[_double(x)]
        x = torch.clamp(x, -bound, bound)
        t = x * x
        square = t * t

        def polynomial(c: list[float]) -> Any:  # even and odd powers apart: half the roundings of Horner's rule
            return _polynomial(square, c[::2][::-1]) + t * _polynomial(square, c[1::2][::-1])

        result = torch.clamp(x * polynomial(above) / polynomial(below), -1.0, 1.0)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


def exp(x: Any) -> Any:
    """The exponential, subnormal, 0 and infinite results included."""
    return _Exp.apply(x)  # type: ignore[no-untyped-call]


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
