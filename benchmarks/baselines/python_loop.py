"""Plain Python: the sums of SpikeProp's paper, millisecond by millisecond."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

NOTE = ""

TAU, THRESHOLD, T_MAX, SLOPE_MIN, LR = 7.0, 1.0, 40, 0.05, 0.0075

Terminals = list[list[float]]  # weights of a neuron, by input
Sample = tuple[list[float], list[float]]  # input times and target output times


def response(s: float) -> float:
    return s / TAU * math.exp(1 - s / TAU) if s > 0 else 0.0


def slope_of_response(s: float) -> float:
    return (1 - s / TAU) / TAU * math.exp(1 - s / TAU) if s > 0 else 0.0


def weighted(response: Callable[[float], float], t: float, times: list[float], w: Terminals) -> float:
    """Return the sum over inputs and terminals at time ``t``."""
    u = 0.0
    for i in range(len(times)):
        for k in range(len(w[i])):
            u += w[i][k] * response(t - times[i] - (k + 1))
    return u


def first_spike(times: list[float], w: Terminals, stop: bool) -> float:
    """Search by whole milliseconds up to the end or the spike, then by false position (Illinois) in the last one."""
    potentials = []
    for t in range(T_MAX + 1):
        potentials.append(weighted(response, t, times, w) - THRESHOLD)
        if stop and potentials[-1] >= 0:
            break
    after = next((t for t, u in enumerate(potentials) if u >= 0), None)
    if after is None:
        return math.inf
    low, high, side = float(after - 1), float(after), 0
    below, above = potentials[after - 1], potentials[after]
    while True:
        middle = (low * above - high * below) / (above - below)
        u = weighted(response, middle, times, w) - THRESHOLD
        if abs(u) < 1e-7:
            return middle
        if u > 0:
            high, above = middle, u
            below, side = below / 2 if side == 1 else below, 1
        else:
            low, below = middle, u
            above, side = above / 2 if side == -1 else above, -1


def bohte(weights: list[list[Terminals]], samples: list[Sample], stop: bool) -> list[list[Terminals]]:
    """Return the weights ``[layer][neuron][input][terminal]`` after one step per sample.

    ``stop`` ends the search of a neuron at its spike; n3ml searches to the end.
    """
    weights = copy.deepcopy(weights)
    guard = SLOPE_MIN * THRESHOLD / TAU
    for spikes, wanted in samples:
        times = [spikes]
        for layer in weights:
            times.append([first_spike(times[-1], w, stop) for w in layer])
        errors = [t - target if t < math.inf else 0.0 for t, target in zip(times[-1], wanted)]
        changes = []
        for depth in range(len(weights) - 1, -1, -1):
            before, after, layer = times[depth], times[depth + 1], weights[depth]
            deltas = [
                e / max(weighted(slope_of_response, t, before, w), guard) if t < math.inf else 0.0
                for e, t, w in zip(errors, after, layer)
            ]
            changes.append((depth, before, after, deltas))
            errors = [0.0] * len(before)
            for j in range(len(layer)):
                for i in range(len(before)):
                    for k in range(len(layer[j][i])):
                        s = after[j] - before[i] - (k + 1)
                        errors[i] += deltas[j] * layer[j][i][k] * slope_of_response(s)
        for depth, before, after, deltas in changes:
            layer = weights[depth]
            for j in range(len(layer)):
                for i in range(len(before)):
                    for k in range(len(layer[j][i])):
                        s = after[j] - before[i] - (k + 1)
                        layer[j][i][k] += LR * deltas[j] * response(s)
    return weights
