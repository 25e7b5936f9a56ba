"""Layers outside of :class:`snnfast.nn.Time`, for networks that fold time into the batch by hand: :func:`fold`.

A published ``forward`` writes ``self.bn(self.conv(x.flatten(0, 1))).reshape(T, B, C, H, W).contiguous()``. These layers
run the kernels of ``Time``. Their results have the memory format of their input: a ``view`` in ``forward`` must still
work.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torch.autograd import forward_ad

from snnfast.ops.autograd import traced
from snnfast.ops.batch_norm import has_kernel
from snnfast.ops.layout import tell_format
from snnfast.reference.spike_conv2d import Method

from .hooks import hooked
from .spike_conv2d import SpikeConv2d, has_events, pointwise
from .time import normalize, normalizes, run

__all__ = ["FoldedBatchNorm1d", "FoldedBatchNorm2d", "FoldedConv1d", "FoldedConv2d", "fold", "unfold"]


class FoldedConv2d(SpikeConv2d):
    """``SpikeConv2d`` whose results are contiguous where the images are."""

    folded_from: ClassVar[type[nn.Module]] = SpikeConv2d
    method: Method = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T B, C, H, W]`` -> ``[T B, O, ...]``."""
        y = super().forward(x)
        return y.contiguous() if x.is_contiguous() else y


class _Folded(nn.Module):
    """A layer for images of all steps, which runs as in ``Time``.

    Attributes:
        folded_from: the layer of ``torch.nn``, whose results these are, but for rounding.
    """

    folded_from: ClassVar[type[nn.Module]]

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T B, ...]`` -> ``[T B, ...]``."""
        if traced() or forward_ad._current_level >= 0 or not x.is_cpu:
            return cast(Tensor, self.folded_from.forward(self, x))
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        return tell_format(run(self, tell_format(x), 1))


class FoldedBatchNorm1d(_Folded, nn.BatchNorm1d):
    """``nn.BatchNorm1d``; ``[T B, C, N]`` behind a linear layer, with ``C`` last in memory, as images."""

    folded_from = nn.BatchNorm1d

    def _run(self, x: Tensor) -> Tensor:
        images = x.unsqueeze(-1)
        if x.dim() != 3 or not has_kernel(images) or not normalizes(self, images):
            return super()._run(x)
        return normalize(self, images, 1).squeeze(-1)


class FoldedBatchNorm2d(_Folded, nn.BatchNorm2d):
    """``nn.BatchNorm2d``."""

    folded_from = nn.BatchNorm2d


class FoldedMaxPool2d(_Folded, nn.MaxPool2d):
    """``nn.MaxPool2d``."""

    folded_from = nn.MaxPool2d

    def _run(self, x: Tensor) -> Tensor:
        y = super()._run(x)
        return y if self.return_indices or not x.is_contiguous() else y.contiguous()


class FoldedAvgPool2d(_Folded, nn.AvgPool2d):
    """``nn.AvgPool2d``."""

    folded_from = nn.AvgPool2d


class FoldedConv1d(_Folded, nn.Conv1d):
    """``nn.Conv1d`` of kernel 1, as a product that skips zeros."""

    folded_from = nn.Conv1d

    def _run(self, x: Tensor) -> Tensor:
        if x.dim() != 3:
            return self.folded_from.forward(self, x)
        y = pointwise(x.unsqueeze(-1), self.weight.unsqueeze(-1), self.bias, "auto").squeeze(-1)
        return y.contiguous() if x.is_contiguous() else y


_FOLDED: dict[Any, Any] = {
    kind.folded_from: kind for kind in (FoldedBatchNorm1d, FoldedBatchNorm2d, FoldedMaxPool2d, FoldedAvgPool2d)
}


def fold(layer: Any) -> None:
    """Change the class of a layer of ``torch.nn`` outside of ``Time`` to that with its kernels, if there is one."""
    kind: Any = None if hooked(layer) else _FOLDED.get(type(layer))
    if type(layer) is nn.Conv2d and has_events(layer):
        kind = FoldedConv2d
    elif type(layer) is nn.Conv1d and not hooked(layer):
        ones = (*layer.kernel_size, *layer.stride, *layer.dilation, layer.groups) == (1,) * 4
        kind = FoldedConv1d if ones and layer.padding in ((0,), "valid", "same") else None
    if kind is not None:
        layer.__class__ = kind


def unfold(net: nn.Module) -> None:
    """Change the classes of such layers back, for code that reads the layers of ``net``."""
    for module in net.modules():
        module.__class__ = getattr(type(module), "folded_from", type(module))
