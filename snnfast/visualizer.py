"""The window of weights that the STDP loop of n3ml's manual draws, by its name; see :mod:`snnfast.visual`."""

from snnfast_zoo.n3ml.visualizer import *  # noqa: F403
from snnfast_zoo.n3ml.visualizer import __all__ as __all__
