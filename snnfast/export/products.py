"""Linear layers and convolutions, which add a row of weights for each input that is not 0, in order."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

import torch
from torch import Tensor, nn
from torch.nn import functional

from .exact import OrderedConv2d, QuantisedWeights, paddings
from .source import CValue, Source

__all__ = ["addition", "conv2d", "linear", "sums"]

TOGETHER = 4  # values of a pixel whose products are added at once: outputs are then read and written once

LINEAR = """
static void $id(void) {
  for (int o = 0; o < $outputs; o++) ${y}[o] = $bias;
  for (int begin = 0; begin < $inputs; begin += 8) {
    const int end = begin + 8 < $inputs ? begin + 8 : $inputs;
    $skip
    for (int w = begin; w < end; w++) {
      const $kind x = ${x}[w];
      if (x != 0) {
        $add
      }
    }
  }
}
"""

# An image is [H, W, C]; the weights are [C, rows, columns, outputs of the channel's group], where those of a spike are
# neighbours, or [rows, columns, C, outputs] if the values of a pixel are multiplied together.
CONV2D = """
static void $id(void) {
  for (int p = 0; p < $out_h * $out_w; p++)
    for (int o = 0; o < $outputs; o++) ${y}[p * $outputs + o] = $bias;
  for (int begin = 0; begin < $size; begin += $block) {
    const int end = begin + $block < $size ? begin + $block : $size;
    $skip
    for (int i = begin; i < end; i += $together) {
      const $kind *x = &${x}[i];
      if ($silent) continue;
      const int row = i / ($w_in * $channels), column = i / $channels % $w_in, c = i % $channels;
      const int first = c / $per_group * $group_outputs, start = c / $together * $kh * $kw;
      $inner
      for (int r = 0; r < $kh; r++) {
        const int down = row + $top - r * $dh;
        if (down < 0 || down % $sh != 0 || down / $sh >= $out_h) continue;
        for (int s = 0; s < $kw; s++) {
          const int right = column + $left - s * $dw;
          if (right < 0 || right % $sw != 0 || right / $sw >= $out_w) continue;
          const int w = (start + r * $kw + s) * $together;
          $sum *y = &${y}[(down / $sh * $out_w + right / $sw) * $outputs + first];
          $add
        }
      }
    }
  }
}
"""

# Away from the edges every pixel of the kernel has an output, at a constant distance: compilers unroll these loops.
INNER = """if (row >= $low_row && row < $high_row && column >= $low_column && column < $high_column) {
        $sum *corner = &${y}[((row + $top) * $out_w + column + $left) * $outputs + first];
        for (int r = 0; r < $kh; r++)
          for (int s = 0; s < $kw; s++) {
            const int w = (start + r * $kw + s) * $together;
            $sum *y = corner - (r * $out_w + s) * $outputs;
            $add
          }
        continue;
      }"""

# Most spikes are 0: eight at a time are left out. No memcpy, which a Cortex-M may lack.
SKIP = "if (end - begin == 8 && is_silent(&%s[begin])) continue;"
SILENT = """static int is_silent(const int8_t *x) {
  return !(x[0] | x[1] | x[2] | x[3] | x[4] | x[5] | x[6] | x[7]);
}"""


# gcc would unroll the short loops of half a row, and then not vectorise them.
ROLLED = """
#if defined(__GNUC__) && !defined(__clang__)
#define ROLLED _Pragma("GCC unroll 1")
#else
#define ROLLED
#endif
"""


def addition(
    source: Source,
    array: str,
    rows: Tensor,
    quantised: QuantisedWeights | None,
    y: str,
    times: Sequence[str],
    first: str = "",
) -> str:
    """Add the constant array of ``rows``; return C that adds ``times`` its rows ``w``, ``w + 1``, ... to ``y``.

    Integers from -7 to 7 are packed in pairs: the lower four bits of a byte hold one of the first half of a row, the
    upper four one of the second half. ``first`` is a C prefix of indices: the first output of the row, and ``+``.
    """
    n = rows.shape[-1]
    parts, loop = [(n, "o", f"{array}[$w * {n} + o]")], "for"
    if quantised is None and rows.is_floating_point():
        source.floats(array, rows)
    elif rows.dtype == torch.int32:
        source.integers(array, rows.flatten().tolist(), "int32_t")
    elif (rows.abs() <= 7).all():
        half = (n + 1) // 2
        low, high = functional.pad(rows.int().reshape(-1, n), (0, 2 * half - n)).add(8).split(half, 1)
        source.integers(array, (low + 16 * high).flatten().tolist(), "uint8_t")
        byte, loop = f"{array}[$w * {half} + o]", "ROLLED for"
        source.helper(ROLLED.strip())
        parts = [(half, "o", f"(({byte} & 15) - 8)"), (n - half, f"{half} + o", f"(({byte} >> 4) - 8)")]
    else:
        source.integers(array, rows.flatten().int().tolist(), "int8_t")
    if quantised is not None:
        scale = source.floats(f"{array}_scale", quantised.scale)
        parts = [(count, o, f"({scale}[{first}{o}] * (float){q})") for count, o, q in parts]
    lines = []
    for count, o, q in parts:
        terms = [f"{factor}{q.replace('$w', f'(w + {k})' if k else 'w')}" for k, factor in enumerate(times)]
        value = " + ".join((f"{y}[{o}]", *terms))
        lines += [f"{loop} (int o = 0; o < {count}; o++) {y}[{o}] = {value};"] * bool(count)
    return "\n      ".join(lines)


def sums(layer: nn.Linear | nn.Conv2d, x: CValue) -> tuple[str, Tensor | None]:
    """Return the C type of the sums of a product, 16 bits where integer weights allow it, and their magnitudes."""
    if layer.weight.dtype != torch.int8:
        return "float", None
    q = layer.weight.flatten(1).long()
    most = torch.maximum(q.clamp(min=0).sum(1), -q.clamp(max=0).sum(1)) if x.ones else 128 * q.abs().sum(1)
    if layer.bias is not None:
        most = most + layer.bias.long().abs()
    return "int16_t" if bool((most < 2**15).all()) else "int32_t", most


def linear(source: Source, id: str, layer: nn.Linear, x: CValue, y: CValue, quantised: QuantisedWeights | None) -> None:
    """Emit a linear layer for samples of one dimension.

    Raises:
        ValueError: for samples of several dimensions.
    """
    if len(x.shape) != 1:
        raise ValueError(f"gets {list(x.shape)} a sample, not one dimension; flatten it before")
    rows = _stored(layer.weight, quantised).t()
    if x.image is not None:  # integers may be added in any order
        rows = rows.unflatten(0, x.image).permute(1, 2, 0, 3).flatten(0, 2)
    source.function(
        LINEAR,
        id=id,
        skip=_skip(source, x),
        x=x.array,
        y=y.array,
        inputs=layer.in_features,
        outputs=layer.out_features,
        kind=x.kind,
        bias=_bias(source, id, layer.bias, y),
        add=addition(source, f"{id}_weight", rows, quantised, y.array, ["" if x.ones else "x * "]),
    )


def conv2d(
    source: Source, id: str, layer: nn.Conv2d | OrderedConv2d, x: CValue, y: CValue, quantised: QuantisedWeights | None
) -> None:
    """Emit a convolution."""
    conv = layer.conv if isinstance(layer, OrderedConv2d) else layer
    (top, _), (left, _) = paddings(conv)
    group_outputs = conv.out_channels // conv.groups
    stored = _stored(conv.weight, quantised).unflatten(0, (conv.groups, group_outputs))
    rows, values = stored.permute(0, 2, 3, 4, 1).contiguous(), ["x[0]"]
    if not x.ones and conv.groups == 1 and 0 < conv.in_channels <= TOGETHER:
        values = [f"x[{k}]" for k in range(conv.in_channels)]
        rows = stored[0].permute(2, 3, 1, 0).contiguous()
        rows = rows.int() if rows.dtype == torch.int8 else rows  # to widen weights takes longer than to multiply
    times = [""] if x.ones else [f"{value} * " for value in values]
    (kh, kw), (sh, sw), (dh, dw) = conv.kernel_size, conv.stride, conv.dilation
    words = {
        **{"id": id, "x": x.array, "y": y.array, "kind": x.kind, "sum": y.kind, "size": x.size},
        **{"channels": conv.in_channels, "outputs": conv.out_channels, "group_outputs": group_outputs},
        **{"per_group": conv.in_channels // conv.groups, "together": len(values), "top": top, "left": left},
        **{"w_in": x.shape[2], "out_h": y.shape[1], "out_w": y.shape[2], "bias": _bias(source, id, conv.bias, y)},
        **{"kh": kh, "kw": kw, "sh": sh, "sw": sw, "dh": dh, "dw": dw},
        **{"block": 8 * len(values), "skip": _skip(source, x) if len(values) == 1 else ""},
        "silent": " && ".join(f"{value} == 0" for value in values),
        "add": addition(source, f"{id}_weight", rows, quantised, "y", times, "first + "),
    }
    edges = {"low_row": kh - 1 - top, "high_row": y.shape[1] - top, "low_column": kw - 1 - left}
    inner = Template(INNER).substitute(words, **edges, high_column=y.shape[2] - left)
    source.function(CONV2D, **words, inner=inner if sh == sw == dh == dw == 1 else "")


def _skip(source: Source, x: CValue) -> str:
    """Return C that leaves out inputs from ``begin`` to ``end`` if they are eight spikes and none fires."""
    if x.kind != "int8_t":
        return ""
    source.helper(SILENT)
    return SKIP % x.array


def _stored(weight: Tensor, quantised: QuantisedWeights | None) -> Tensor:
    return weight if quantised is None else quantised.q


def _bias(source: Source, id: str, bias: Tensor | None, y: CValue) -> str:
    if bias is None:
        return "0.0f" if y.kind == "float" else "0"
    name = f"{id}_bias"
    array = source.floats(name, bias) if bias.is_floating_point() else source.integers(name, bias.tolist(), "int32_t")
    return f"{array}[o]"
