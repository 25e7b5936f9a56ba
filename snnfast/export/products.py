"""Linear layers and convolutions, which add a row of weights for each input that is not 0, in order."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .exact import OrderedConv2d, Quantised, paddings
from .source import Source, Value

__all__ = ["addition", "conv2d", "linear"]

LINEAR = """
static void $id(void) {
  for (int o = 0; o < $outputs; o++) ${y}[o] = $bias;
  for (int w = 0; w < $inputs; w++) {
    const $kind x = ${x}[w];
    if (x != 0) {
      $add
    }
  }
}
"""

# An image is [H, W, C], the weights are [rows, columns, C, outputs of the channel's group].
CONV2D = """
static void $id(void) {
  for (int p = 0; p < $out_h * $out_w; p++)
    for (int o = 0; o < $outputs; o++) ${y}[p * $outputs + o] = $bias;
  for (int i = 0; i < $h * $w_in * $channels; i++) {
    const $kind x = ${x}[i];
    if (x == 0) continue;
    const int row = i / ($w_in * $channels), column = i / $channels % $w_in, c = i % $channels;
    const int first = c / $per_group * $group_outputs;
    for (int r = 0; r < $kh; r++) {
      const int down = row + $top - r * $dh;
      if (down < 0 || down % $sh != 0 || down / $sh >= $out_h) continue;
      for (int s = 0; s < $kw; s++) {
        const int right = column + $left - s * $dw;
        if (right < 0 || right % $sw != 0 || right / $sw >= $out_w) continue;
        const int w = (r * $kw + s) * $channels + c;
        $sum *y = &${y}[(down / $sh * $out_w + right / $sw) * $outputs + first];
        $add
      }
    }
  }
}
"""


def addition(
    source: Source, array: str, rows: Tensor, quantised: Quantised | None, y: str, times: str, first: str = ""
) -> str:
    """Add the constant array of ``rows``; return C that adds ``times`` its row ``w`` to ``y``.

    Integers from -7 to 7 are packed in pairs: the lower four bits of a byte hold one of the first half of a row, the
    upper four one of the second half. ``first`` is a C prefix of indices: the first output of the row, and ``+``.
    """
    n = rows.shape[-1]
    whole = rows.dtype == torch.int8  # from snnfast.export.integer: the neurons apply the scales
    parts = [(n, "o", f"{array}[w * {n} + o]")]
    if quantised is None and not whole:
        source.floats(array, rows)
    elif (rows.abs() <= 7).all():
        half = (n + 1) // 2
        low, high = functional.pad(rows.int().reshape(-1, n), (0, 2 * half - n)).add(8).split(half, 1)
        source.integers(array, (low + 16 * high).flatten().tolist(), "uint8_t")
        byte = f"{array}[w * {half} + o]"
        parts = [(half, "o", f"(({byte} & 15) - 8)"), (n - half, f"{half} + o", f"(({byte} >> 4) - 8)")]
    else:
        source.integers(array, rows.flatten().int().tolist(), "int8_t")
    if quantised is not None:
        scale = source.floats(f"{array}_scale", quantised.scale)
        parts = [(count, o, f"({scale}[{first}{o}] * (float){q})") for count, o, q in parts]
    return "\n      ".join(
        f"for (int o = 0; o < {count}; o++) {y}[{o}] += {times}{w};" for count, o, w in parts if count
    )


def linear(source: Source, id: str, layer: nn.Linear, x: Value, y: Value, quantised: Quantised | None) -> None:
    """Emit a linear layer for samples of one dimension.

    Raises:
        ValueError: for samples of several dimensions.
    """
    if len(x.shape) != 1:
        raise ValueError(f"gets {list(x.shape)} a sample, not one dimension; flatten it before")
    source.function(
        LINEAR,
        id=id,
        x=x.array,
        y=y.array,
        inputs=layer.in_features,
        outputs=layer.out_features,
        kind=x.kind,
        bias=_bias(source, id, layer.bias, y),
        add=addition(source, f"{id}_weight", _stored(layer.weight, quantised).t(), quantised, y.array, _times(x)),
    )


def conv2d(
    source: Source, id: str, layer: nn.Conv2d | OrderedConv2d, x: Value, y: Value, quantised: Quantised | None
) -> None:
    """Emit a convolution."""
    conv = layer.conv if isinstance(layer, OrderedConv2d) else layer
    (top, _), (left, _) = paddings(conv)
    group_outputs = conv.out_channels // conv.groups
    # [O, C of a group, rows, columns] -> [rows, columns, C, O of a group]
    stored = _stored(conv.weight, quantised).unflatten(0, (conv.groups, group_outputs))
    rows = stored.permute(3, 4, 0, 2, 1).contiguous()
    source.function(
        CONV2D,
        id=id,
        x=x.array,
        y=y.array,
        channels=conv.in_channels,
        outputs=conv.out_channels,
        group_outputs=group_outputs,
        kind=x.kind,
        sum=y.kind,
        per_group=conv.in_channels // conv.groups,
        h=x.shape[1],
        w_in=x.shape[2],
        out_h=y.shape[1],
        out_w=y.shape[2],
        top=top,
        left=left,
        bias=_bias(source, id, conv.bias, y),
        **dict(zip(("kh", "kw"), conv.kernel_size)),
        **dict(zip(("sh", "sw"), conv.stride)),
        **dict(zip(("dh", "dw"), conv.dilation)),
        add=addition(source, f"{id}_weight", rows, quantised, "y", _times(x), "first + "),
    )


def _times(x: Value) -> str:
    return "" if x.ones else "x * "


def _stored(weight: Tensor, quantised: Quantised | None) -> Tensor:
    return weight if quantised is None else quantised.q


def _bias(source: Source, id: str, bias: Tensor | None, y: Value) -> str:
    if bias is None:
        return "0" if y.kind == "int32_t" else "0.0f"
    name = f"{id}_bias"
    array = source.floats(name, bias) if bias.is_floating_point() else source.integers(name, bias.tolist(), "int32_t")
    return f"{array}[o]"
