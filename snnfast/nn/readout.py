"""Readouts: from a sequence to one value a neuron."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check

__all__ = ["Count", "Rate"]


class Rate(nn.Module):
    """Spikes per step: the mean over time of ``[T, ...]``, summed in float32 at least; NaN without steps.

    Its gradient is the same at every step: a view with stride 0 over time, which the kernels read
    in place.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, ...]`` -> ``[...]``, in the dtype of ``x``."""
        check.sequence("Rate", x)
        # The gradient of x.mean(0) would be written for every step.
        return (_sum(x) / x.shape[0]).to(x.dtype)


class Count(nn.Module):
    """Spikes in all: the sum over time of ``[T, ...]``; gradient like :class:`Rate`'s."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, ...]`` -> ``[...]``, float64 for float64 ``x``, else float32: bfloat16 counts to 256."""
        check.sequence("Count", x)
        return _sum(x)


def _sum(x: Tensor) -> Tensor:
    return _WideSum.apply(x) if x.element_size() == 2 else x.sum(0)  # type: ignore[no-untyped-call]


class _WideSum(torch.autograd.Function):
    """The sum of 16 bits in float32. PyTorch's would write its gradient for every step, to make 16 bits of it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sum(0, dtype=torch.float32)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.steps, ctx.dtype = len(inputs[0]), inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.to(ctx.dtype).expand(ctx.steps, *grad.shape)
