"""Sum pooling of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SumPool2d"]


class SumPool2d(nn.Module):
    """Sum pooling of images ``[N, C, H, W]``, inside :class:`snnfast.nn.Time`.

    Args:
        kernel_size: size of a window.
        stride: stride of the windows; ``kernel_size`` if None.
        padding: zeros added on each side.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, C, H', W']`` of the same dtype; sums of int8 must fit into int8."""
        image = x.float() if x.dtype == torch.int8 else x  # PyTorch pools no int8; these sums are exact
        return functional.avg_pool2d(image, self.kernel_size, self.stride, self.padding, divisor_override=1).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"
