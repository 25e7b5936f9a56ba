"""Errors for second derivatives where only first derivatives are implemented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

WHY = "only first derivatives are implemented"


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, op: str, why: str, function: Callable[..., Any], args: Any, *tensors: Any) -> Any:
        ctx.op, ctx.why = op, why
        result = function(*args)
        return tuple(result) if isinstance(result, list) else result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise refusal(ctx.op, ctx.why)


def refusal(op: str, why: str = WHY) -> RuntimeError:
    """Return the exception to raise for a second derivative of ``op``."""
    return RuntimeError(f"{op}: a second derivative was asked for, but {why}")


def first_order(op: str, function: Callable[..., Any], *args: Any, why: str = WHY) -> Any:
    """Call ``function(*args)`` inside a backward pass of ``op``; differentiating the result raises an error."""
    if torch.is_grad_enabled():  # create_graph=True
        # autograd does not look for tensors inside of lists
        tensors = [t for a in args for t in (a if isinstance(a, (list, tuple)) else [a])]
        return _FirstOrder.apply(op, why, function, args, *tensors)  # type: ignore[no-untyped-call]
    return function(*args)
