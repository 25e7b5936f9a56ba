"""Pooling, and conversions of memory layouts of images."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.utils import _pair

from snnfast.nn import RatePool
from snnfast.nn.sum_pool2d import SumPool2d

from .source import CValue, Source

__all__ = ["flatten", "pool", "rate_pool", "reordered"]

LEAST = {"float": "-INFINITY"} | {f"int{bits}_t": f"INT{bits}_MIN" for bits in (8, 16, 32, 64)}
POOL = """
static void $id(void) {
  for (int row = 0; row < $out_h; row++)
    for (int column = 0; column < $out_w; column++) {
      const int r0 = row * $sh - $ph, r1 = r0 + $kh < $h + $ph ? r0 + $kh : $h + $ph;
      const int s0 = column * $sw - $pw, s1 = s0 + $kw < $w + $pw ? s0 + $kw : $w + $pw;
      const int top = r0 > 0 ? r0 : 0, bottom = r1 < $h ? r1 : $h;
      const int left = s0 > 0 ? s0 : 0, right = s1 < $w ? s1 : $w;
      for (int c = 0; c < $channels; c++) {
        $kind y = $start;
        for (int r = top; r < bottom; r++)
          for (int s = left; s < right; s++) {
            const $kind x = ${x}[(r * $w + s) * $channels + c];
            $step
          }
        ${y}[(row * $out_w + column) * $channels + c] = $end;
      }
    }
}
"""

COUNT = """
static void $id(void) {
  for (int n = 0; n < $size; n++) ${count}[n] += ${x}[n];
}
"""

INCREASE = """
static void $id(void) {
  for (int n = 0; n < $size; n++) {
    ${y}[n] = ${pooled}[n] - ${before}[n];
    ${before}[n] = ${pooled}[n];
  }
}
"""

REORDER = """
static void $id(void) {
  for (int p = 0; p < $pixels; p++)
    for (int c = 0; c < $channels; c++) $to = $from;
}
"""


def pool(source: Source, id: str, layer: nn.MaxPool2d | nn.AvgPool2d | SumPool2d, x: CValue, y: CValue) -> None:
    """Emit maximum, average or sum pooling, with PyTorch's windows at the edges.

    Raises:
        ValueError: for dilated windows.
    """
    sides = {n: _pair(getattr(layer, n)) for n in ("kernel_size", "stride", "padding")}
    values = {f"{name[0]}{side}": sides[name][k] for name in sides for k, side in enumerate("hw")}
    if isinstance(layer, nn.MaxPool2d):
        if _pair(layer.dilation) != (1, 1):
            raise ValueError("has dilated windows")
        words = {"start": LEAST[x.kind], "step": "if (x > y) y = x;", "end": "y"}
    elif isinstance(layer, SumPool2d):
        words = {"start": "0", "step": "y += x;", "end": "y"}
    else:
        if layer.divisor_override is not None:
            divisor = str(layer.divisor_override)
        elif layer.count_include_pad:
            divisor = "(r1 - r0) * (s1 - s0)"
        else:
            divisor = "(bottom - top) * (right - left)"
        words = {"start": "0.0f", "step": "y += x;", "end": f"y / (float)({divisor})"}
    shapes = {"channels": x.shape[0], "h": x.shape[1], "w": x.shape[2], "out_h": y.shape[1]}
    source.function(POOL, id=id, kind=x.kind, x=x.array, y=y.array, out_w=y.shape[2], **shapes, **values, **words)


def rate_pool(source: Source, id: str, layer: RatePool, x: CValue, y: CValue) -> None:
    """Emit pooling of the counts so far, and its increase.

    Raises:
        ValueError: for pooling that is not ``nn.MaxPool2d``, and for dilated windows.
    """
    if not isinstance(layer.pool, nn.MaxPool2d):
        raise ValueError(f"pools by a {type(layer.pool).__name__}, in C by MaxPool2d alone")
    kind = x.kind if x.kind == "float" else "int32_t"
    zero = "0.0f" if kind == "float" else "0"
    count = x._replace(array=source.state(f"{id}_count", x.size, zero, kind), kind=kind)
    pooled = y._replace(array=source.memory(f"{id}_pooled", y.size, kind), kind=kind)
    before = source.state(f"{id}_before", y.size, zero, kind)
    source.function(COUNT, id=f"{id}_counts", size=x.size, count=count.array, x=x.array)
    pool(source, f"{id}_pool", layer.pool, count, pooled)
    source.function(INCREASE, id=id, size=y.size, y=y.array, pooled=pooled.array, before=before)


def flatten(source: Source, id: str, layer: nn.Flatten, x: CValue, y: CValue) -> None:
    """Emit a Flatten of a whole sample.

    Raises:
        ValueError: for a Flatten of some dimensions only.
    """
    if (layer.start_dim, layer.end_dim) != (0, len(x.shape) - 1):
        raise ValueError(f"flattens other dimensions than all of a sample {list(x.shape)}")
    reordered(source, id, x, y.array, to_image=False)


def reordered(source: Source, id: str, x: CValue, y: str, *, to_image: bool) -> None:
    """Emit the conversion from PyTorch's ``[C, H, W]`` to ``[H, W, C]``, or back; a copy for other shapes."""
    channels, pixels = (x.shape[0], x.size // max(x.shape[0], 1)) if len(x.shape) == 3 else (x.size, 1)
    plain, image = f"c * {pixels} + p", f"p * {channels} + c"
    to, start = (image, plain) if to_image else (plain, image)
    values = {"pixels": pixels, "channels": channels}
    source.function(REORDER, id=id, to=f"{y}[{to}]", **{"from": f"{x.array}[{start}]"}, **values)
