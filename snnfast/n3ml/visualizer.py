"""The window of weights that the STDP loop of n3ml's manual draws, by its name; see :mod:`snnfast.visual`."""

from snnfast.visual import show_weights as plot

__all__ = ["plot"]
