"""A convolution behind spiking layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.reference.spike_conv2d import METHODS, Method

__all__ = ["SpikeConv2d", "has_events", "pointwise"]


class SpikeConv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d` for images with few nonzero pixels, such as spikes; :func:`snnfast.ops.spike_conv2d`.

    Parameters, their initial values, the state dict and, but for rounding, the result are those of ``nn.Conv2d``: to
    use it, replace the name. On the CPU it sums only the pixels that are not 0, if that is faster. It runs as
    ``nn.Conv2d`` with a dilation or groups other than 1, with padding that is not of zeros or not less than
    the kernel, and for a single image ``[C, H, W]``.

    Args:
        in_channels, out_channels, kernel_size, more: as those of ``nn.Conv2d``.
        method: ``"auto"``, ``"events"`` or ``"dense"``, as in :func:`snnfast.ops.spike_conv2d`.

    Raises:
        TypeError, ValueError: for wrong sizes, and for ``method="events"`` if it cannot run.

    Example:
        >>> net = nn.Sequential(LIF(tau=2.0), Time(SpikeConv2d(16, 32, 3, padding=1)))
    """

    op = "spike_conv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *more: Any,
        method: Method = "auto",
        **keywords: Any,
    ) -> None:
        check.choice("SpikeConv2d", "method", method, METHODS)
        super().__init__(*_checked(in_channels, out_channels, kernel_size), *more, **keywords)
        self.method: Method = method
        if method == "events" and not has_events(self):
            raise ValueError(
                "SpikeConv2d: method='events' takes a dilation and groups of 1, and zeros as padding, less "
                "than the kernel; use 'auto'"
            )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[N, C, H, W]``, in the dtype of the weights -> ``[N, O, ...]``."""
        if x.dim() != 4 or not has_events(self):
            return super().forward(x)
        if self.kernel_size == self.stride == (1, 1) and x.is_cpu and x.dtype in (torch.float32, torch.float64):
            return pointwise(x, self.weight, self.bias, self.method)
        return ops.spike_conv2d(
            x,
            self.weight,
            self.bias,
            stride=cast(tuple[int, int], self.stride),
            padding=cast(tuple[int, int], self.padding),
            method=self.method,
        )

    def extra_repr(self) -> str:
        """The sizes, and the method where it was chosen."""
        chosen = "" if self.method == "auto" else f", method={self.method!r}"
        shown: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return shown + chosen


def _checked(in_channels: int, out_channels: int, kernel_size: int | Sequence[int]) -> tuple[int, int, tuple[int, int]]:
    """Return the sizes of a convolution, checked."""
    layer = "SpikeConv2d"
    if isinstance(kernel_size, check.INTEGERS):
        kernel_size = (kernel_size, kernel_size)
    return (
        check.integer(layer, "in_channels", in_channels),
        check.integer(layer, "out_channels", out_channels),
        cast(tuple[int, int], check.sizes(layer, "kernel_size", kernel_size, 2)),
    )


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, method: Method) -> Tensor:
    """Return a convolution ``[O, C, 1, 1]`` of images as a product of their pixels; the result is channels-last.

    :func:`snnfast.ops.spike_linear` takes 0.4 to 0.9 of the time of :func:`snnfast.ops.spike_conv2d` then.
    """
    return ops.spike_linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias, method=method).permute(0, 3, 1, 2)


def has_events(layer: nn.Conv2d) -> bool:
    """Return whether ``layer`` has a dilation and groups of 1, and zeros as padding, less than the kernel."""
    plain = (*layer.dilation, layer.groups) == (1,) * 3
    return (
        plain
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and all(side < kernel for side, kernel in zip(layer.padding, layer.kernel_size))
    )
