"""n3ml's name for the figure of weights that the manual's STDP loop draws; more in :mod:`snnfast.visual`."""

from snnfast.visual import plot

__all__ = ["plot"]
