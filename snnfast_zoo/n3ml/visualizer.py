"""Window of weights, with the name in the STDP loop of n3ml's manual; see :mod:`snnfast.visual`."""

from snnfast_zoo.visual import show_weights as plot

__all__ = ["plot"]
