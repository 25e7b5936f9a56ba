"""The exponential of the kernels in PyTorch: the operations of ``csrc/core/exp.h``, with bit-identical results."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from snnfast.reference.surrogate import differentiable

_REDUCTION = {
    # log2(e), 1.5 * 2**(mantissa bits - 1), ln(2) in two parts, degree of the polynomial, bits to shift, exponent of 1
    torch.float32: (1.44269504, 12582912.0, 0.693145752, 1.42860677e-6, 7, 23, 127),
    torch.float64: (
        1.4426950408889634,
        6755399441055744.0,
        6.93147180369123816490e-01,
        1.90821492927058770002e-10,
        13,
        52,
        1023,
    ),
}
_LOWEST = {torch.float32: -87.0, torch.float64: -708.0}  # of exp_nonpositive
_RANGE = {torch.float32: (-104.0, 89.0), torch.float64: (-746.0, 710.0)}  # beyond: 0 and infinite


def _remainder(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``p`` and integers with ``n`` in their low bits, so that ``exp(x) = p * 2**n``."""
    log2e, magic, ln2_high, ln2_low, degree, _, _ = _REDUCTION[x.dtype]
    shifted = x * log2e + magic
    n = shifted - magic
    r = (x - n * ln2_high) - n * ln2_low
    p = torch.full_like(r, 1 / math.factorial(degree))
    for k in reversed(range(degree)):
        p = p * r + 1 / math.factorial(k)
    return p, shifted.view(torch.int32 if x.dtype == torch.float32 else torch.int64)


def _power_of_two(n: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``2**n``, of the low bits of ``n``."""
    *_, shift, bias = _REDUCTION[dtype]
    return ((n + bias) << shift).view(dtype)


def exp_nonpositive(x: Tensor) -> Tensor:
    """``exp(x)`` for ``x <= 0`` in float32 or float64, to 2 units in the last place; PyTorch's own rounds differently.

    For a traced value (``snnfast.compiler``) it is a single operation, which the kernels have.
    """
    if not isinstance(x, Tensor):
        return x.exp_nonpositive()
    p, n = _remainder(x.clamp(min=_LOWEST[x.dtype]))
    return p * _power_of_two(n, x.dtype)


def exponential(x: Tensor) -> Tensor:
    """``exp(x)`` for any ``x``: 0, subnormal or infinite where it is; a single operation for a traced value."""
    if not isinstance(x, Tensor):
        return x.exponential()
    low, high = _RANGE[x.dtype]
    p, n = _remainder(x.clamp(low, high))
    half = n >> 1
    return p * _power_of_two(half, x.dtype) * _power_of_two(n - half, x.dtype)


def exp_quotient(x: Tensor, divisor: float | Tensor) -> Tensor:
    """``exp(x / by)``, at most ``e^87`` in float32, ``e^708`` in float64; without a gradient.

    For a traced value it is a single operation: GPU kernels avoid the division (``csrc/core/exp.h``).
    """
    if not isinstance(x, Tensor):
        return x.exp_quotient(divisor)
    z = divided(x, divisor)
    small = exp_nonpositive(torch.where(z < 0, z, -z))
    return torch.where(z < 0, small, 1 / small)


class _Upstroke(torch.autograd.Function):
    """``delta exp(x / delta)``: its derivative is ``exp(x / delta)``, without a quotient by ``delta``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: float | Tensor) -> Tensor:
        is_tensor = not isinstance(delta, (int, float))  # a tensor, or a value that is traced
        ctx.save_for_backward(x, *(delta,) * is_tensor)
        ctx.delta = None if is_tensor else delta
        return delta * exp_quotient(x, delta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        x, *saved_delta = ctx.saved_tensors
        delta = saved_delta[0] if saved_delta else ctx.delta
        grad_e = grad * exp_quotient(x, delta)
        if not saved_delta:
            return grad_e, None
        # not grad (e - e x / delta), which may be infinite where grad is 0
        return grad_e, (grad_e - grad_e * divided(x, delta)).sum_to_size(delta.shape)


def exp_upstroke(x: Tensor, delta: float | Tensor) -> Tensor:
    """``delta exp(x / delta)``, with the exponential of :func:`exp_quotient`."""
    result: Tensor = differentiable(_Upstroke)(x, delta)
    return result


def divided(x: Tensor, divisor: float | Tensor) -> Tensor:
    """Return ``x / by``, rounded once on every device: on CUDA PyTorch multiplies by the reciprocal of a number."""
    if not isinstance(divisor, Tensor) and not x.is_cpu:
        divisor = torch.full((), divisor, dtype=x.dtype, device=x.device)
    return x / divisor
