"""Figures: rasters, membranes, receptive fields, curves, confusion, also without a display (``snnfast_zoo.visual``)."""

from snnfast_zoo.visual import *  # noqa: F403
from snnfast_zoo.visual import __all__ as __all__
from snnfast_zoo.visual import __dir__ as __dir__
