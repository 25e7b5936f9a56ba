"""Readouts, whose output at each step is that of a sequence which ends there."""

from __future__ import annotations

from torch import nn

from snnfast.nn import Count, FirstSpike, Last, Max, Rate

from .pooling import LEAST
from .source import CValue, Source

__all__ = ["READOUTS", "readout"]

STEP = """
static void $id(void) {
  for (int n = 0; n < $size; n++) {
    const $kind x = ${x}[n];
    $body
  }
}
"""

# Code of a step, where `k` is the state, and the initial value of `k`.
READOUTS: dict[type[nn.Module], tuple[str, str]] = {
    Count: ("${y}[n] = ${k}[n] += x;", "0.0f"),
    Rate: ("${k}[n] += x; ${y}[n] = ${k}[n] / (float)(steps + 1);", "0.0f"),
    Max: ("${y}[n] = ${k}[n] = x > ${k}[n] ? x : ${k}[n];", "-INFINITY"),
    Last: ("${y}[n] = x;", ""),
    # For a membrane above 1 the factor is 0, as for several spikes.
    FirstSpike: (
        "const float more = x - 1.0f; ${k}[n] *= 1.0f - (x - (more > 0.0f ? more : 0.0f)); ${y}[n] += ${k}[n];",
        "1.0f",
    ),
}


def readout(source: Source, id: str, layer: nn.Module, x: CValue, y: CValue) -> None:
    """Emit a readout with one value per neuron."""
    body, rest = READOUTS[type(layer)]
    if y.kind != "float":
        rest = {Count: "0", Max: LEAST[y.kind]}.get(type(layer), "")
    k = source.state(f"{id}_kept", x.size, rest, y.kind) if rest else ""
    if isinstance(layer, FirstSpike):
        source.resets.append(f"for (int n = 0; n < {x.size}; n++) {y.array}[n] = 0.0f;")
    source.function(STEP.replace("$body", body), id=id, kind=x.kind, size=x.size, x=x.array, y=y.array, k=k)
