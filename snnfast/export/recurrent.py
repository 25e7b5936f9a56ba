"""C code of recurrent neurons and delays, which store past spikes and inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnfast import ops
from snnfast.nn import Delay, Recurrent
from snnfast.nn.integer_recurrent import PARTS, IntegerRecurrent

from .exact import QuantisedWeights
from .neurons import integer_lif, neuron_code
from .products import addition
from .source import CValue, Source

__all__ = ["delay", "integer_recurrent", "recurrent"]

# `past` holds the spikes of the last $steps steps; row t % $steps has those of step t.
RECURRENT = """
static void $id(void) {
  for (int o = 0; o < $size; o++) ${current}[o] = ${x}[o];
  for (int j = 0; j < $size; j++) {
    const float r = $arrived;
    if (r != 0.0f) {
      const int w = j;
      $add
    }
  }
}
"""

# Sums of whole numbers, which make currents.
INTEGER_RECURRENT = """
static void $id(void) {
  for (int o = 0; o < $size; o++) ${sums}[o] = 0;
  for (int j = 0; j < $size; j++) {
    const int r = $arrived;
    if (r != 0) {
      const int w = j;
      $add
    }
  }
  for (int o = 0; o < $size; o++) ${current}[o] = ${x}[o] * $gain + $bias + ${sums}[o] * $back;
}
"""

REMEMBER = """
static void $id(void) {
  for (int n = 0; n < $size; n++) ${past}[$now * $size + n] = ${x}[n];
  $now = ($now + 1) % $steps;
}
"""

# A channel's input `k + first` steps ago has the weight `k`.
DELAY = """
static void $id(void) {
  for (int n = 0; n < $size; n++) ${past}[$now * $size + n] = ${x}[n];
  for (int n = 0; n < $size; n++) {
    const int c = n % $channels;
    float y = 0.0f;
    for (int k = 0; k < $taps; k++) {
      const int ago = ${id}_first[c] + k;
      y += ${id}_weight[k * $channels + c] * ${past}[($now + $steps - ago) % $steps * $size + n];
    }
    ${y}[n] = y;
  }
  $now = ($now + 1) % $steps;
}
"""


def recurrent(
    source: Source, id: str, layer: Recurrent, x: CValue, y: CValue, quantised: QuantisedWeights | None
) -> None:
    """Emit recurrent neurons: feedback is added to their input currents.

    Raises:
        ValueError: for samples of more than one dimension.
    """
    if len(x.shape) != 1:
        raise ValueError(f"gets {list(x.shape)} a sample, not one dimension")
    size, delays = layer.features, layer.delays
    past, steps, position = "", 0, ""
    if delays is None:  # without delays, the spikes of the step before arrive
        arrived = f"{y.array}[j]"
        source.resets.append(f"for (int n = 0; n < {size}; n++) {y.array}[n] = 0.0f;")
    else:
        late = delays.detach().float().clamp(min=0)
        whole_steps = late.floor()
        steps = int(whole_steps.max()) + 2
        past, position = source.state(f"{id}_past", steps * size), source.counter(f"{id}_now")
        row = f"{past}[({position} + {steps} - %s) %% {steps} * {size} + j]"
        ago = f"{source.integers(f'{id}_ago', (whole_steps + 1).tolist())}[j]"
        early, late_part = (
            f"{source.floats(f'{id}_{name}', part)}[j]"
            for name, part in (("early", 1 - (late - whole_steps)), ("late", late - whole_steps))
        )
        arrived = f"{early} * {row % ago} + {late_part} * {row % f'({ago} + 1)'}"
    weight = layer.connected(layer.weight if quantised is None else quantised.q)
    current = CValue(source.memory(f"{id}_current", size), x.shape)
    times = ["" if y.ones and delays is None else "r * "]
    source.function(
        RECURRENT,
        id=id,
        size=size,
        x=x.array,
        current=current.array,
        arrived=arrived,
        add=addition(source, f"{id}_weight", weight.t(), quantised, current.array, times),
    )
    try:
        neuron_code(source, f"{id}_neuron", layer.neuron, current, y)
    except ValueError as error:
        raise ValueError(f"holds a {type(layer.neuron).__name__} that {error}") from None
    if position:
        remembered = {"past": past, "now": position, "steps": steps, "size": size}
        source.function(REMEMBER, id=f"{id}_remember", x=y.array, **remembered)


def integer_recurrent(source: Source, id: str, layer: IntegerRecurrent, x: CValue, y: CValue) -> None:
    """Emit recurrent integer neurons: their feedback is summed, and becomes a current."""
    size, times, remembered = len(layer.gain), "", None
    if layer.delay is None or layer.late is None:  # the spikes of the step before arrive
        arrived = f"{y.array}[j]"
        source.resets.append(f"for (int n = 0; n < {size}; n++) {y.array}[n] = 0;")
    else:
        steps, times = int(layer.delay.max()) + 2, "r * "
        past, position = source.state(f"{id}_past", steps * size, "0", "int8_t"), source.counter(f"{id}_now")
        remembered = {"past": past, "now": position, "steps": steps, "size": size}
        ago = f"{source.integers(f'{id}_ago', (layer.delay + 1).tolist())}[j]"
        late = f"{source.integers(f'{id}_late', layer.late.tolist())}[j]"
        row = f"{past}[({position} + {steps} - %s) %% {steps} * {size} + j]"
        arrived = f"({PARTS} - {late}) * {row % ago} + {late} * {row % f'({ago} + 1)'}"
    current = CValue(source.memory(f"{id}_current", size, "int32_t"), x.shape, "int32_t")
    sums = source.memory(f"{id}_sums", size, "int32_t")
    scales = {"gain": layer.neuron.gain, "bias": layer.neuron.bias, "back": layer.gain}
    source.function(
        INTEGER_RECURRENT,
        id=id,
        size=size,
        x=x.array,
        current=current.array,
        sums=sums,
        arrived=arrived,
        add=addition(source, f"{id}_weight", layer.weight.t(), None, sums, [times]),
        **{n: f"{source.integers(f'{id}_{n}', value.tolist(), 'int32_t')}[o]" for n, value in scales.items()},
    )
    integer_lif(source, f"{id}_neuron", layer.neuron, current, y, fed=True)
    if remembered:
        source.function(REMEMBER, id=f"{id}_remember", x=y.array, **remembered)


def delay(source: Source, id: str, layer: Delay, x: CValue, y: CValue) -> None:
    """Emit a delay per channel: a convolution over time with the constant impulse response of the layer."""
    first, tap_weights = _taps(layer)
    taps, channels = tap_weights.shape
    steps = int(first.max()) + taps
    source.integers(f"{id}_first", first.tolist())
    source.floats(f"{id}_weight", tap_weights)
    source.function(
        DELAY,
        id=id,
        size=x.size,
        x=x.array,
        y=y.array,
        channels=channels,
        taps=taps,
        steps=steps,
        past=source.state(f"{id}_past", steps * x.size),
        now=source.counter(f"{id}_now"),
    )


def _taps(layer: Delay) -> tuple[Tensor, Tensor]:
    """Return the steps before the first weight that is not 0, ``[C]``, and the weights from it on, ``[taps, C]``."""
    d = layer.delays.detach().float()
    steps = math.ceil(layer.max_delay + layer.sigma) + 2
    impulse = torch.zeros(2 * steps, 1, len(d))
    impulse[0] = 1
    answer = ops.delay(impulse, d, sigma=layer.sigma)[:, 0]
    first = (answer != 0).int().argmax(0)
    taps = math.ceil(2 * (1 + layer.sigma))
    return first, answer.gather(0, first + torch.arange(taps)[:, None])
