"""Neurons in C: a step of each, from the equation of its kernels."""

from __future__ import annotations

import re
from string import Template
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast.compiler.emit import c99_step
from snnfast.compiler.evaluate import evaluate
from snnfast.compiler.expression import Node
from snnfast.compiler.neurons import step_of
from snnfast.compiler.trace import TracedStep
from snnfast.compiler.variant import ALPHA, states_of, traced, variant_of
from snnfast.nn import IntegerLIF
from snnfast.nn.integer_adlif import MOST_ADAPTATION, IntegerAdLIF
from snnfast.nn.integer_ilif import IntegerILIF
from snnfast.nn.own_neuron import OwnLayer
from snnfast.nn.state import Stateful
from snnfast.reference.integer_lif import DECAY
from snnfast.reference.neuron_arguments import NEURONS

from .source import CValue, Source, element, literal

__all__ = ["integer_lif", "neuron_code"]

STEP = """
static void $id(void) {
  for (int n = 0; n < $size; n++) {
    const float x = ${x}[n];
    $body
  }
}
"""

# h >> 15 rounds down with every compiler; no term of a sum exceeds 32 bits.
INTEGER_LIF = """
static void $id(void) {
  int beyond = 0;
  for (int p = 0; p < $pixels; p++)
    for (int c = 0; c < $channels; c++) {
      const int n = p * $channels + c;
      const int32_t before = ${v}[n];
      const int32_t h = $leaked + ${x}[n] * $gain + $bias;
      $cut
      $fire
    }
  snn_saturated += beyond;
}
"""
CUT = """const int32_t cut = h > $limit ? $limit : h < -$limit ? -$limit : h;
      beyond += cut != h;"""

# Adaptive neurons; a product with a part of a number above 2^15 has two parts, so that it fits in 32 bits. `fired` is a
# mask, -1 in place of 1: with conditions gcc does not vectorise the loop.
INTEGER_ADLIF = """
static void $id(void) {
  int beyond = 0;
  for (int p = 0; p < $pixels; p++)
    for (int c = 0; c < $channels; c++) {
      const int n = p * $channels + c;
      const int32_t before = ${v}[n], current = ${x}[n] * $gain + $bias;
      const int32_t h = ((before >> 15) * $decay + ((before & 32767) * $decay >> 15)) + current - ${w}[n];
      const int32_t cut = h > $limit ? $limit : h < -$limit ? -$limit : h;
      const int32_t fired = -(cut >= $threshold), after = $after, m = $driving, last = ${w}[n];
      const int32_t leaked = (last >> 15) * $decay_w + ((last & 32767) * $decay_w >> 15);
      const int32_t w = leaked + ((m >> 15) * $a + ((m & 32767) * $a >> 15)) + ($b & fired);
      const int32_t held = w > $most ? $most : w < -$most ? -$most : w;
      ${y}[n] = -fired;
      ${v}[n] = after;
      ${w}[n] = held;
      beyond += (cut != h) + (held != w);
    }
  snn_saturated += beyond;
}
"""

# Several spikes a step; only numbers above 0 are divided.
INTEGER_ILIF = """
static void $id(void) {
  int beyond = 0;
  $clock
  for (int p = 0; p < $pixels; p++)
    for (int c = 0; c < $channels; c++) {
      const int n = p * $channels + c;
      const int32_t before = ${v}[n];
      const int32_t h = (before >> 15) * $decay + ((before & 32767) * $decay >> 15) + ${x}[n] * $gain + $bias;
      const int32_t cut = h > $limit ? $limit : h < -$limit ? -$limit : h;
      beyond += cut != h;
      $fire
    }
  snn_saturated += beyond;
  $emit
}
"""
# The currents of a step in substeps, which charge together.
CLOCK = """const int due = $clock >= $start;
  $clock = (due ? $start - $steps : $clock) + 1;
  for (int n = 0; n < $size; n++) ${a}[n] $adds ${x}[n];
  if (due)"""
EMIT = """for (int n = 0; n < $size; n++) {
    ${y}[n] = ${p}[n] > 0;
    ${p}[n] -= ${y}[n];
  }"""

# Functions that C99 lacks; csrc/core/functions.h has the same.
FUNCTIONS = {
    "absolute": "static float absolute(float x) { return x < 0.0f ? -x : x; }",
    "sign_of": "static float sign_of(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f; }",
    "larger": "static float larger(float a, float b) { return a >= b || a != a ? a : b; }",
    "smaller": "static float smaller(float a, float b) { return a <= b || a != a ? a : b; }",
    "truncated": """static float truncated(float x) {
  return x > -8388608.0f && x < 8388608.0f ? (float)(int)x : x;
}""",
    "floor_of": """static float floor_of(float x) {
  const float whole = truncated(x);
  return whole > x ? whole - 1.0f : whole;
}""",
    "ceil_of": "static float ceil_of(float x) { return -floor_of(-x); }",
    "nearest_even": """static float nearest_even(float x) {
  const float size = absolute(x), whole = size < 8388608.0f ? (size + 8388608.0f) - 8388608.0f : size;
  return x < 0.0f ? -whole : whole;
}""",
    "bits_of": """#include <string.h>
static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}""",
    "of_bits": """static float of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}""",
    "exp_remainder": """static float exp_remainder(float x, float* shifted) {
  *shifted = x * 1.44269504f + 12582912.0f;
  const float n = *shifted - 12582912.0f, r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p;
}""",
    "exp_nonpositive": """static float exp_nonpositive(float x) {
  float shifted;
  const float p = exp_remainder(x < -87.0f ? -87.0f : x, &shifted);
  return p * of_bits((bits_of(shifted) << 23) + ((uint32_t)127 << 23));
}""",
    "exponential": """static float exponential(float x) {
  float shifted;
  const float p = exp_remainder(x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x, &shifted);
  const uint32_t n = bits_of(shifted), half = n >> 1;
  return p * of_bits((half + 127) << 23) * of_bits((n - half + 127) << 23);
}""",
    "exp_quotient": """static float exp_quotient(float x, float by) {
  const float z = x / by, small = exp_nonpositive(z < 0.0f ? z : -z);
  return z < 0.0f ? small : 1.0f / small;
}""",
    "mantissa_of": """static float mantissa_of(float x) {
  const uint32_t bits = bits_of(x);
  return of_bits(bits - ((bits - 0x3f3504f3u) & 0xff800000u));
}""",
    # the exponent beside 128, since only shifts of positive numbers are the same everywhere
    "exponent_of": """static float exponent_of(float x) {
  return (float)((int)((bits_of(x) - 0x3f3504f3u + 0x40000000u) >> 23) - 128);
}""",
}
NEEDS = {
    "floor_of": ("truncated",),
    "ceil_of": ("truncated", "floor_of"),
    "nearest_even": ("absolute",),
    "exp_nonpositive": ("bits_of", "of_bits", "exp_remainder"),
    "exponential": ("bits_of", "of_bits", "exp_remainder"),
    "exp_quotient": ("bits_of", "of_bits", "exp_remainder", "exp_nonpositive"),
    "mantissa_of": ("bits_of", "of_bits"),
    "exponent_of": ("bits_of",),
}


def integer_lif(source: Source, id: str, layer: IntegerLIF, x: CValue, y: CValue, *, fed: bool = False) -> None:
    """Emit integer neurons; ``fed``: ``x`` is their current, not sums."""
    if isinstance(layer, IntegerILIF):
        integer_ilif(source, id, layer, x, y)
        return
    if isinstance(layer, IntegerAdLIF):
        integer_adlif(source, id, layer, x, y, fed)
        return
    v = source.state(f"{id}_v_state", x.size, str(layer.v_init), "int32_t")
    source.counted("snn_saturated")
    fire = f"{y.array}[n] = {v}[n] = cut;"
    if layer.v_threshold is not None:
        after = f"cut - {layer.v_threshold}" if layer.v_reset is None else layer.v_reset
        fire = f"{y.array}[n] = cut >= {layer.v_threshold};\n      {v}[n] = cut >= {layer.v_threshold} ? {after} : cut;"
    decay = layer.decay
    leaked = f"(before >> 15) * {decay} + ((before & 32767) * {decay} >> 15)"
    if decay and decay & (decay - 1) == 0:
        leaked = f"(before >> {15 - decay.bit_length() + 1})"
    cut = Template(CUT).substitute(limit=layer.limit) if _may_saturate(layer, x, fed) else "const int32_t cut = h;"
    words = {"x": x.array, "v": v, "fire": fire, "leaked": leaked, "cut": cut}
    source.function(INTEGER_LIF, id=id, **words, **_integers(source, id, layer, x, fed))


def _may_saturate(layer: IntegerLIF, x: CValue, fed: bool) -> bool:
    """Return whether a membrane may reach the limit; no, if all currents together are too small."""
    leak = 1 - layer.decay / DECAY
    if fed or x.most is None or leak <= 0:
        return True
    current = layer.gain.double().abs() * x.most + layer.bias.double().abs()
    most = (float(current.max()) + 1) / leak  # + 1: leaks are rounded down
    return max(most, abs(layer.v_init), abs(layer.v_reset or 0)) > layer.limit


def integer_adlif(source: Source, id: str, layer: IntegerAdLIF, x: CValue, y: CValue, fed: bool) -> None:
    """Emit adaptive integer neurons."""
    source.counted("snn_saturated")
    constants = {n: source.integers(f"{id}_{n}", getattr(layer, n).tolist(), "int32_t") for n in layer.of_channels}
    states = {name: source.state(f"{id}_{name}_state", x.size, "0", "int32_t") for name in layer.states}
    threshold, back = layer.v_threshold, layer.v_reset
    source.function(
        INTEGER_ADLIF,
        id=id,
        x=x.array,
        y=y.array,
        threshold=threshold,
        after=f"cut - ({threshold} & fired)" if back is None else f"((cut & ~fired) | ({back} & fired))",
        driving="after" if layer.symplectic else "cut",
        most=MOST_ADAPTATION,
        **states,
        **{name: f"{array}[c]" for name, array in constants.items()},
        **_integers(source, id, layer, x, fed),
    )


def integer_ilif(source: Source, id: str, layer: IntegerILIF, x: CValue, y: CValue) -> None:
    """Emit integer neurons with several spikes a step, as numbers or one by one."""
    v, substeps = source.state(f"{id}_v_state", x.size, str(layer.v_init), "int32_t"), layer.steps > 1
    source.counted("snn_saturated")
    values = {"size": x.size, "x": x.array, "y": y.array, "clock": "", "emit": ""}
    spikes = y.array
    if substeps:
        values |= {"a": source.state(f"{id}_a_state", x.size, "0", "int32_t"), "start": layer.start}
        values["adds"] = "+=" if layer.start else "="
        clock = source.counter(f"{id}_clock")
        values["clock"] = Template(CLOCK).substitute(values | {"clock": clock, "steps": layer.steps})
        values["x"] = values["a"]
    fire = f"{y.array}[n] = {v}[n] = cut;"
    if layer.v_threshold is None and substeps:
        values["emit"], fire = f"for (int n = 0; n < {x.size}; n++) {y.array}[n] = {v}[n];", f"{v}[n] = cut;"
    elif layer.v_threshold is not None:
        if substeps:
            spikes = values["p"] = source.state(f"{id}_p_state", x.size, "0", "int8_t")
            values["emit"] = Template(EMIT).substitute(values)
        half, threshold = layer.v_threshold // 2, layer.v_threshold
        fire = f"""const int32_t high = cut + {half}, whole = high > 0 ? high / {threshold} : 0;
      const int32_t count = whole > {layer.most} ? {layer.most} : whole;
      {spikes}[n] = (int8_t)count;
      {v}[n] = cut - count * {threshold};"""
    if substeps:
        fire += f"\n      {values['a']}[n] = 0;"
    source.function(INTEGER_ILIF, id=id, v=v, fire=fire, decay=layer.decay, **values, **_integers(source, id, layer, x))


def _integers(source: Source, id: str, layer: IntegerLIF, x: CValue, fed: bool = False) -> dict[str, Any]:
    """Add the constants of integer neurons; return their C expressions. ``fed``: ``x`` is a current already."""
    channels, elements = x.shape[0], {"gain": "1", "bias": "0"}
    if not fed:
        elements = {n: f"{source.integers(f'{id}_{n}', getattr(layer, n).tolist(), 'int32_t')}[c]" for n in elements}
    return {**elements, "pixels": x.size // channels, "channels": channels, "limit": layer.limit}


class _Neuron(NamedTuple):
    """Step of a layer, names of its states, values of its parameters, and whether it fires only above the threshold."""

    step: TracedStep
    states: list[str]
    parameters: dict[str, Any]
    strict: bool


def neuron_code(source: Source, id: str, layer: Stateful, x: CValue, y: CValue) -> None:
    """Emit the neurons of a layer, from the currents ``x`` to the spikes, or membranes, ``y``.

    Raises:
        ValueError: for neurons with several inputs or outputs, and for functions that C99 lacks.
    """
    for name, value in getattr(layer, "resets", {}).items():
        raise ValueError(f"starts with {name}={value:g}, and neurons in C start at v_rest")
    if getattr(layer, "return_v_seq", False):
        raise ValueError("returns membranes, too; set return_v_seq=False")
    step, states, parameters, strict = _read(layer, torch.zeros(1, 1, *x.shape))
    leaves = {node.id: torch.tensor(parameters[name], dtype=torch.float64) for name, node in step.numbers.items()} | {
        node.id: parameters[name].detach().float() for name, node in step.tensors.items()
    }

    def coefficient(node: Node) -> str:
        named = f"{id}_{node.value if node.op in ('number', 'tensor') else f'c{node.id}'}"
        value = evaluate(node, leaves)
        return element(source, named, value if value.dim() else float(value), x.shape)

    init = getattr(layer, "v_init", None)
    rest = element(source, f"{id}_rest", parameters.get("v_rest", 0.0) if init is None else init, x.shape)
    at_rest = [rest, *[literal(0.0)] * (len(states) - 1)]
    places = {name: f"{source.state(f'{id}_{name}_state', x.size, start)}[n]" for name, start in zip(states, at_rest)}
    lines = c99_step(step, states, coefficient, places | {"x": "x", "y": f"{y.array}[n]"}, strict)
    for name in dict.fromkeys(re.findall(r"\b[a-z_]+(?=\()", " ".join(lines))):
        if name not in FUNCTIONS:
            raise ValueError(f"uses {name}, which C99 has in a library alone")
        for needed in (*NEEDS.get(name, ()), name):
            source.helper(FUNCTIONS[needed])
    text = Template(STEP).substitute(id=id, size=x.size, x=x.array, body="\n    ".join(lines))
    source.function(text.replace("$", "$$"), id=id)


def _read(layer: Stateful, x: Tensor) -> _Neuron:
    if isinstance(layer, OwnLayer) and layer.op == OwnLayer.op:
        neuron = layer.neuron
        if len(neuron.inputs) > 1 or neuron.outputs > 1:
            raise ValueError(
                f"has {len(neuron.inputs)} inputs and {neuron.outputs} outputs; in C a neuron has one of each"
            )
        call = neuron.check(x, **layer._arguments(x))
        variant = variant_of(call)
        parameters = call._asdict() | {ALPHA: getattr(call.surrogate, "alpha", 0.0)}
        return _Neuron(traced(neuron, variant), states_of(neuron, variant), parameters, False)
    if getattr(layer, "op", None) not in NEURONS:  # neurons replaced from other libraries have no op
        raise ValueError("has no equal in C")
    call = NEURONS[layer.op].check(x, **layer._arguments(x))
    step, states = step_of(call)
    return _Neuron(step, states, call._asdict(), call.strict)
