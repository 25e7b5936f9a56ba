"""Neurons from step functions in C: the expressions of their kernels."""

from __future__ import annotations

import re
from string import Template

import torch
from torch import Tensor

from snnfast.compiler.emit import c99_step
from snnfast.compiler.evaluate import evaluate
from snnfast.nn.own_neuron import OwnLayer

from .source import Source, Value, each, literal

__all__ = ["own_neuron"]

STEP = """
static void $id(void) {
  for (int n = 0; n < $size; n++) {
    const float x = ${x}[n];
    $body
  }
}
"""

# What C99 lacks; csrc/core/functions.h has the same.
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
    "exp_nonpositive": """static float exp_nonpositive(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * of_bits((bits_of(shifted) << 23) + ((uint32_t)127 << 23));
}""",
    "mantissa_of": "static float mantissa_of(float x) { return of_bits((bits_of(x) & 0x807fffffu) | 0x3f000000u); }",
    "exponent_of": "static float exponent_of(float x) { return (float)((int)(bits_of(x) >> 23 & 0xffu) - 126); }",
}
NEEDS = {
    "floor_of": ("truncated",),
    "ceil_of": ("truncated", "floor_of"),
    "nearest_even": ("absolute",),
    "exp_nonpositive": ("bits_of", "of_bits"),
    "mantissa_of": ("bits_of", "of_bits"),
    "exponent_of": ("bits_of",),
}


def own_neuron(source: Source, id: str, layer: OwnLayer, x: Value, y: Value) -> None:
    """All neurons of a layer, from the currents ``x`` to the output ``y``.

    Raises:
        ValueError: for neurons of several inputs or outputs, and for functions that C99 lacks.
    """
    neuron, size = layer.neuron, x.size
    if len(neuron.inputs) > 1 or neuron.outputs > 1:
        raise ValueError(
            f"has {len(neuron.inputs)} inputs and {neuron.outputs} outputs; in C a neuron has one of each"
        )
    if layer.return_v_seq:
        raise ValueError("returns membranes, too; set return_v_seq=False")
    sample = torch.zeros(1, 1, *x.shape)
    call = neuron.bind((sample,), layer._arguments(sample))
    plan, states = neuron.plan(call.variant)
    leaves = {
        node.id: torch.tensor(call.parameters[name], dtype=torch.float64)
        for name, node in plan.step.numbers.items()
    } | {
        node.id: call.parameters[name].detach().float() for name, node in plan.step.tensors.items()
    }
    texts = {}
    for k, node in enumerate((*plan.numbers, *plan.neuron)):
        value: Tensor | float = evaluate(node, leaves)
        value = float(value) if k < len(plan.numbers) else value
        texts[node.id] = each(source, f"{id}_c{k}", value, x.shape)
    rest = call.parameters.get("v_rest", 0.0)
    at_rest = [each(source, f"{id}_rest", rest, x.shape), *[literal(0.0)] * (len(states) - 1)]
    places = {
        name: f"{source.kept(f'{id}_{name}', size, start)}[n]"
        for name, start in zip(states, at_rest)
    }
    lines = c99_step(plan, states, texts, places | {"x": "x", "y": f"{y.array}[n]"})
    for name in dict.fromkeys(re.findall(r"\b[a-z_]+(?=\()", " ".join(lines))):
        if name not in FUNCTIONS:
            raise ValueError(f"uses {name}, which C99 has in a library alone")
        for needed in (*NEEDS.get(name, ()), name):
            source.helper(FUNCTIONS[needed])
    step = Template(STEP).substitute(id=id, size=size, x=x.array, body="\n    ".join(lines))
    source.function(step.replace("$", "$$"), id=id)
