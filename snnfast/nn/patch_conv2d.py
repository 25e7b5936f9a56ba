"""A convolution of small images in bfloat16, as a product of patches and weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snnfast import check
from snnfast.reference.first_order import first_order

from .spike_conv2d import checked, has_events

__all__ = ["PatchConv2d"]

# The largest results, in pixels, for which the product is faster (python -m benchmarks patch_conv2d).
MOST_PIXELS, MOST_OF_FEW_CHANNELS = 16, 4
FEW_CHANNELS = 128 * 128  # inputs times outputs


class PatchConv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d`, faster for images of few pixels in bfloat16 on a CPU with AMX.

    A convolution of an image of 4x4 or 2x2 pixels gives oneDNN few rows to work on at a time, so that Intel's matrix
    units (AMX) run mostly empty. Here every result is a row of one matrix product: the patch of the image under the
    kernel, times all weights. The backward pass is two such products. The patches are saved for it: the size of the
    kernel times the memory of the image.

    Parameters, their initial values, the state dict and, but for rounding, the result are those of ``nn.Conv2d``: to
    use it, replace the name. It runs as ``nn.Conv2d`` on processors without AMX, where the product is slower for most
    sizes, in another dtype than bfloat16, which autocast may give, on other devices, under ``torch.compile``,
    ``torch.export`` and ``torch.vmap``, for results of more than 16 pixels (of more than 4 with at most 128 x 128
    channels), with a stride, dilation or groups other than 1, with padding that is not of zeros or not less than the
    kernel, and for a single image ``[C, H, W]``.

    Args:
        in_channels, out_channels, kernel_size, more: as those of ``nn.Conv2d``.

    Raises:
        TypeError, ValueError: for wrong sizes.
        RuntimeError: for a second derivative through the product; only the first is implemented.

    Example:
        >>> conv = PatchConv2d(256, 512, 3, padding=1)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     y = conv(torch.rand(8, 256, 4, 4))
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], *more: Any, **keywords: Any
    ) -> None:
        super().__init__(*checked("PatchConv2d", in_channels, out_channels, kernel_size), *more, **keywords)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[N, C, H, W]`` -> ``[N, O, ...]``."""
        dtype = x.dtype
        if torch.is_autocast_enabled("cpu") and dtype == torch.float32:
            dtype = torch.get_autocast_dtype("cpu")
        eager_cpu = x.device.type == "cpu" and not check.is_recorded(x.device)
        if not eager_cpu or dtype != torch.bfloat16 or not _has_amx() or not self._small(x):
            return super().forward(x)
        y: Tensor = _PatchConv2d.apply(x.to(dtype), self.weight.to(dtype), self.padding)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(dtype).view(1, -1, 1, 1)

    def _small(self, x: Tensor) -> bool:
        """Return whether the product of patches supports this layer, and is faster for images like ``x``."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            return False
        if self.stride != (1, 1) or not has_events(self):
            return False
        height, width = _result(x, self.kernel_size, self.padding)
        few = self.in_channels * self.out_channels <= FEW_CHANNELS
        most = MOST_OF_FEW_CHANNELS if few else MOST_PIXELS
        return min(height, width) >= 1 and height * width <= most


@cache
def _has_amx() -> bool:
    return torch.cpu._is_amx_tile_supported()


class _PatchConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        rows = _patches(x, weight.shape[2:], padding)
        ctx.save_for_backward(rows, weight)
        ctx.padding, ctx.shape = padding, x.shape
        y = rows @ weight.permute(0, 2, 3, 1).reshape(len(weight), -1).t()
        return _image(y, len(x), _result(x, weight.shape[2:], padding))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return first_order("PatchConv2d", _gradients, ctx, grad, *ctx.saved_tensors)  # type: ignore[no-any-return]


def _gradients(ctx: Any, grad: Tensor, rows: Tensor, weight: Tensor) -> tuple[Tensor | None, ...]:
    out, channels, *kernel = weight.shape
    grad_x = grad_weight = None
    if ctx.needs_input_grad[0]:
        # The same convolution, of the gradient by the kernel turned around.
        padding = tuple(side - 1 - pad for side, pad in zip(kernel, ctx.padding))
        turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, channels)
        grad_x = _image(_patches(grad, kernel, padding) @ turned, len(grad), ctx.shape[2:])
    if ctx.needs_input_grad[1]:
        grad_rows = grad.permute(0, 2, 3, 1).reshape(-1, out)
        grad_weight = (grad_rows.t() @ rows).view(out, *kernel, channels).permute(0, 3, 1, 2)
    return grad_x, grad_weight, None


def _result(x: Tensor, kernel: Any, padding: Any) -> tuple[int, int]:
    height, width = (size + 2 * pad - side + 1 for size, side, pad in zip(x.shape[2:], kernel, padding))
    return height, width


def _patches(x: Tensor, kernel: Any, padding: Any) -> Tensor:
    """A row for each pixel of the result: the pixels under the kernel, with all their channels."""
    height, width = _result(x, kernel, padding)
    (top, left), channels = padding, x.shape[1]
    padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, left, left, top, top)).contiguous()
    image, line, pixel, value = padded.stride()
    # A line of a patch lies in one piece: its pixels side by side, each with all its channels.
    patches = padded.as_strided(
        (len(x), height, width, kernel[0], kernel[1] * channels), (image, line, pixel, line, value)
    )
    return patches.reshape(len(x) * height * width, kernel[0] * kernel[1] * channels)


def _image(rows: Tensor, count: int, size: Any) -> Tensor:
    """Rows of pixels as images, channels-last."""
    return rows.view(count, *size, rows.shape[1]).permute(0, 3, 1, 2)
