"""Neurons: one step of each, in the order of operations of :mod:`snnfast.reference`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast.calls.neuron import NEURONS
from snnfast.nn.own_neuron import OwnLayer
from snnfast.nn.state import Stateful

from .own_neuron import own_neuron
from .source import Source, Value, each, literal

__all__ = ["call_of", "neuron"]

STEP = """
static void $id(void) {
  for (int n = 0; n < $size; n++) {
    float x = ${x}[n];
    $body
  }
}
"""

LIF = ("const float h = $held$v_rest + $decay * ($v[n] - $v_rest) + $gain * x;",)
RESET = {
    True: "$v[n] = s != 0.0f ? $v_reset : h;",
    False: "$v[n] = s != 0.0f ? h - $v_threshold : h;",
}
FIRE = ("const float s = $awake h $above $v_threshold ? 1.0f : 0.0f;", "$reset", "${y}[n] = s;")
READ = ("$v[n] = h;", "${y}[n] = h;")

# What a neuron does before and after, by its op; `h` is the membrane before a spike, `s` the spike.
BODIES: dict[str, tuple[str, ...]] = {
    "lif": (*LIF, *FIRE),
    "iaf": (*LIF, *FIRE),
    "li": (*LIF, *READ),
    "cuba": ("x = $i[n] = $decay_syn * $i[n] + x;", *LIF, *FIRE),
    "cubali": ("x = $i[n] = $decay_syn * $i[n] + x;", *LIF, *READ),
    "alif": (
        *LIF,
        "const float s = $awake h $above $v_threshold + $beta * $a_state[n] ? 1.0f : 0.0f;",
        *FIRE[1:],
        "$a_state[n] = $decay_adapt * $a_state[n] + s;",
    ),
    "adlif": (
        "x = x - $w[n];",
        *LIF,
        *FIRE,
        "$w[n] = $decay_w * $w[n] + $gain_w * ($a * ($m - $v_rest) + $b * s);",
    ),
}
# Silent for so many steps after a spike.
SILENCE = "$r[n] = s != 0.0f ? $refractory : $r[n] > 1.0f ? $r[n] - 1.0f : 0.0f;"
# The states besides the membrane, by what the body calls them.
STATES = {"cuba": ("i",), "cubali": ("i",), "alif": ("a_state",), "adlif": ("w",)}
PARAMETERS = {
    "cuba": ("decay_syn",),
    "cubali": ("decay_syn",),
    "alif": ("beta", "decay_adapt"),
    "adlif": ("decay_w", "gain_w", "a", "b"),
}
SHARED = ("decay", "gain", "v_threshold", "v_reset", "v_rest")
# Fields of a call that say nothing of the spikes, or that the bodies know.
KNOWN = frozenset(
    {"x", "v", "i", "w", "a", "hard_reset", "fires", "surrogate", "detach_reset"}
    | {"strict", "return_state", "return_v_seq", "symplectic", "r", "refractory"}
)


def call_of(layer: Stateful, shape: tuple[int, ...]) -> Any:
    """What ``layer`` asks of its op, for samples of ``shape``.

    Raises:
        ValueError: for a neuron that has no C.
    """
    if getattr(layer, "op", None) not in BODIES:  # what replace made of other libraries' has none
        raise ValueError("has no equal in C")
    check_start(layer)
    if getattr(layer, "return_v_seq", False):
        raise ValueError("returns membranes, too; set return_v_seq=False")
    x = torch.zeros(1, 1, *shape)
    call = NEURONS[layer.op](x, **layer._arguments(x))
    known = {*KNOWN, *SHARED, *PARAMETERS.get(layer.op, ())}
    for field, value in call._asdict().items():
        off = value is None or (not isinstance(value, Tensor) and value in (0, False))
        off = off or (field, value) == ("max_spikes", 1)
        if field not in known and not off:
            raise ValueError(f"has {field}={value}, which has no equal in C")
    return call


def check_start(layer: Stateful) -> None:
    """Refuse a layer whose states begin elsewhere than those of its op.

    Raises:
        ValueError: with the name of the state.
    """
    for name, value in getattr(layer, "resets", {}).items():
        raise ValueError(f"starts with {name}={value:g}, and neurons in C start at v_rest")


def neuron(source: Source, id: str, layer: Stateful, x: Value, y: Value) -> None:
    """All neurons of a layer, from the currents ``x`` to the spikes, or membranes, ``y``."""
    if isinstance(layer, OwnLayer) and layer.op == OwnLayer.op:
        check_start(layer)
        return own_neuron(source, id, layer, x, y)
    call, op, size = call_of(layer, x.shape), layer.op, x.size
    symplectic = getattr(call, "symplectic", False)
    values = {name: getattr(call, name) for name in (*SHARED, *PARAMETERS.get(op, ()))}
    text = {name: each(source, f"{id}_{name}", value, x.shape) for name, value in values.items()}
    text |= {"v": source.kept(f"{id}_v", size, text["v_rest"])}
    text |= {name: source.kept(f"{id}_{name}", size) for name in STATES.get(op, ())}
    text["above"] = ">" if call.strict else ">="
    text["m"] = f"{text['v']}[n]" if symplectic else "h"
    words: dict[str, object] = {**text, "x": x.array, "y": y.array, "id": id, "size": size}
    refractory = getattr(call, "refractory", 0)
    held, awake, lines = "", "", BODIES[op]
    if refractory:
        words |= {"r": source.kept(f"{id}_r", size), "refractory": literal(refractory)}
        held, awake = "$r[n] > 0.0f ? $v[n] : ", "$r[n] <= 0.0f &&"
        lines = (*lines, SILENCE)
    body = "\n    ".join(lines).replace("$reset", RESET[call.hard_reset])
    body = body.replace("$awake ", f"{awake} " if awake else "").replace("$held", held)
    source.function(STEP.replace("$body", body), **words)
