"""``spikingjelly.clock_driven.layer``: containers, dropout with a mask for all steps, batch norm with a threshold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .base import MemoryModule
from .functional import multi_step_forward, seq_to_ann_forward

__all__ = [
    *("Dropout", "Dropout2d", "MultiStepContainer", "MultiStepDropout", "MultiStepDropout2d"),
    *("MultiStepThresholdDependentBatchNorm1d", "MultiStepThresholdDependentBatchNorm2d"),
    *("MultiStepThresholdDependentBatchNorm3d", "SeqToANNContainer"),
]


class MultiStepContainer(nn.Sequential):
    """Layers that take a step, applied to each step of ``[T, B, ...]``."""

    def forward(self, x_seq: Tensor) -> Tensor:
        """``[T, B, ...]`` -> ``[T, B, ...]``."""
        return multi_step_forward(x_seq, self)


class SeqToANNContainer(nn.Sequential):
    """Layers without time, applied to all steps of ``[T, B, ...]`` at once."""

    def forward(self, x_seq: Tensor) -> Tensor:
        """``[T, B, ...]`` -> ``[T, B, ...]``."""
        return seq_to_ann_forward(x_seq, self)


class Dropout(MemoryModule):
    """Dropout of a step ``[B, ...]``, whose mask stays until :meth:`reset`."""

    mask: Tensor | None

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"{type(self).__name__}: p must lie in [0, 1), got {p}")
        self.p = p
        self.register_memory("mask", None)

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with elements, or channels, set to 0 while it trains."""
        if not self.training:
            return x
        if self.mask is None:
            self.mask = self._draw(torch.ones_like(self._step(x).detach()))
        return x * self.mask

    def _step(self, x: Tensor) -> Tensor:
        return x

    def _draw(self, ones: Tensor) -> Tensor:
        return F.dropout(ones, self.p)


class Dropout2d(Dropout):
    """Dropout of channels of a step ``[B, C, H, W]``, whose mask stays until :meth:`reset`."""

    def __init__(self, p: float = 0.2) -> None:
        super().__init__(p)

    def _draw(self, ones: Tensor) -> Tensor:
        return F.dropout2d(ones, self.p)


class MultiStepDropout(Dropout):
    """Dropout with the same mask at all steps of ``[T, B, ...]``."""

    def _step(self, x: Tensor) -> Tensor:
        return x[0]


class MultiStepDropout2d(Dropout2d):
    """Dropout of the same channels at all steps of ``[T, B, C, H, W]``."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def _step(self, x: Tensor) -> Tensor:
        return x[0]


class _ThresholdDependentBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over all steps, whose weight starts at ``alpha v_th`` (Zheng et al., AAAI 2021)."""

    dims: tuple[int, ...]

    def __init__(self, alpha: float, v_th: float, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.alpha, self.v_th = alpha, v_th
        if not self.affine:
            raise ValueError(f"{type(self).__name__}: affine must be True")
        nn.init.constant_(self.weight, alpha * v_th)

    def forward(self, x_seq: Tensor) -> Tensor:
        """``[T, B, C, ...]`` -> ``[T, B, C, ...]``."""
        y: Tensor = super().forward(x_seq.flatten(0, 1))
        return y.view(x_seq.shape)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() not in self.dims:
            wanted = " or ".join(str(dim + 1) for dim in self.dims)
            raise ValueError(
                f"{type(self).__name__}: x_seq must have {wanted} dimensions, [T, B, C, ...], got {x.dim() + 1}"
            )


class MultiStepThresholdDependentBatchNorm1d(_ThresholdDependentBatchNorm):
    """For ``[T, B, C]`` and ``[T, B, C, L]``."""

    dims = (2, 3)


class MultiStepThresholdDependentBatchNorm2d(_ThresholdDependentBatchNorm):
    """For ``[T, B, C, H, W]``."""

    dims = (4,)


class MultiStepThresholdDependentBatchNorm3d(_ThresholdDependentBatchNorm):
    """For ``[T, B, C, D, H, W]``."""

    dims = (5,)
