"""Neurons from step functions: those of examples/own_neurons.py, and one that is also in the package."""

import sys
from pathlib import Path

import snnfast
from snnfast.nn.equations import glif

sys.path.append(str(Path(__file__).parents[1] / "examples"))
from own_neurons import gated, klif, resonator, two_compartments

__all__ = ["gated", "glif", "klif", "plain_lif", "resonator", "two_compartments"]


@snnfast.neuron
def plain_lif(fire, x, v, *, decay=0.5, v_threshold=1.0, v_rest=0.0):
    h = v_rest + decay * (v - v_rest) + (1.0 - decay) * x
    s, _, v = fire(h, v_threshold)
    return s, v
