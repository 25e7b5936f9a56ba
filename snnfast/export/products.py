"""Linear layers and convolutions, which add a row of weights for each input that is not 0, in order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .exact import OrderedConv2d, Quantised, paddings
from .source import Source, Value

__all__ = ["conv2d", "linear", "weights"]

LINEAR = """
static void $id(void) {
  for (int o = 0; o < $outputs; o++) ${y}[o] = $bias;
  for (int i = 0; i < $inputs; i++) {
    const $kind x = ${x}[i];
    if (x != 0) {
      const int w = i * $outputs;
      for (int o = 0; o < $outputs; o++) ${y}[o] += $times$w;
    }
  }
}
"""

# Two integers from -7 to 7 per byte, the first in the lower half.
INT4 = """
static inline int int4(const uint8_t *q, int i) { return (q[i / 2] >> (i % 2 ? 4 : 0) & 15) - 8; }
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
    const int first = c / $per_group * $each;
    for (int r = 0; r < $kh; r++) {
      const int down = row + $top - r * $dh;
      if (down < 0 || down % $sh != 0 || down / $sh >= $out_h) continue;
      for (int s = 0; s < $kw; s++) {
        const int right = column + $left - s * $dw;
        if (right < 0 || right % $sw != 0 || right / $sw >= $out_w) continue;
        const int w = ((r * $kw + s) * $channels + c) * $each;
        $sum *y = &${y}[(down / $sh * $out_w + right / $sw) * $outputs + first];
        for (int o = 0; o < $each; o++) y[o] += $times$w;
      }
    }
  }
}
"""


def weights(source: Source, array: str, rows: Tensor, quantised: Quantised | None, at: str = "o") -> str:
    """Add the constant array of ``rows``; return the C expression of weight ``o`` of the row that begins at ``w``."""
    whole = rows.dtype == torch.int8  # from snnfast.export.integer, whose neurons have the scales
    if quantised is None and not whole:
        return f"{source.floats(array, rows)}[w + o]"
    q = rows.flatten().int()
    scale = "" if quantised is None else source.floats(f"{array}_scale", quantised.scale)
    if (q.abs() <= 7).all():
        source.helper(INT4)
        low, high = torch.cat([q, q[:1]])[: len(q) + len(q) % 2].add(8).view(-1, 2).unbind(1)
        source.integers(array, (low + 16 * high).tolist(), "uint8_t")
        read = f"int4({array}, w + o)"
    else:
        read = f"{source.integers(array, q.tolist(), 'int8_t')}[w + o]"
    return read if whole else f"({scale}[{at}] * (float){read})"


def _kinds(x: Value, y: Value) -> dict[str, str]:
    """Return the types of inputs and sums, and the factor of a weight, which is empty for spikes."""
    return {"kind": x.kind, "sum": y.kind, "times": "" if x.ones else "x * "}


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
        **_kinds(x, y),
        bias=_bias(source, id, layer.bias, y),
        w=weights(source, f"{id}_weight", _stored(layer.weight, quantised).t(), quantised),
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
        each=group_outputs,
        per_group=conv.in_channels // conv.groups,
        h=x.shape[1],
        w_in=x.shape[2],
        out_h=y.shape[1],
        out_w=y.shape[2],
        top=top,
        left=left,
        **_kinds(x, y),
        bias=_bias(source, id, conv.bias, y),
        **dict(zip(("kh", "kw"), conv.kernel_size)),
        **dict(zip(("sh", "sw"), conv.stride)),
        **dict(zip(("dh", "dw"), conv.dilation)),
        w=weights(source, f"{id}_weight", rows, quantised, "first + o"),
    )


def _stored(weight: Tensor, quantised: Quantised | None) -> Tensor:
    return weight if quantised is None else quantised.q


def _bias(source: Source, id: str, bias: Tensor | None, y: Value) -> str:
    if bias is None:
        return "0" if y.kind == "int32_t" else "0.0f"
    name = f"{id}_bias"
    array = source.floats(name, bias) if bias.is_floating_point() else source.integers(name, bias.tolist(), "int32_t")
    return f"{array}[o]"
