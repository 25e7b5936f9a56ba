"""Sequences of equal steps, as views of one step with stride 0 over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .layout import dense_order, inverse


def once(x: Tensor) -> Tensor:
    """Return one step of a sequence of equal steps. The gradient at every step is the mean over the steps."""
    return _Once.apply(x)  # type: ignore[no-untyped-call,no-any-return]


def repeat(y: Tensor, steps: int) -> Tensor:
    """Expand a step to a sequence. Its gradient may be the mean over the steps at every step: the sum is equal."""
    return _Repeat.apply(y, steps)  # type: ignore[no-untyped-call,no-any-return]


def repeats(x: Tensor) -> bool:
    """Return whether ``x`` is a result of :func:`repeat`, for which the mean of the gradient over time suffices."""
    return type(x.grad_fn) is _Repeat._backward_cls


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.steps = len(x)
        return x[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        mean: Tensor = grad / ctx.steps
        return mean.expand(ctx.steps, *grad.shape)


class _Repeat(torch.autograd.Function):
    # PyTorch's own sum over the steps loses the memory format.
    @staticmethod
    def forward(ctx: Any, y: Tensor, steps: int) -> Tensor:
        return y.expand(steps, *y.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if grad.stride(0) == 0:
            return grad[0] * len(grad), None
        order = dense_order(grad)
        if order is None:
            return grad.sum(0), None
        back = inverse(order)[1:]
        total: Tensor = grad.permute(order).sum(0)
        return total.permute([d - 1 for d in back]), None
