"""Figures of spiking networks: rasters, membranes, receptive fields, training curves, confusion.

Every function but ``show_weights`` returns a ``matplotlib.figure.Figure`` and touches no global state of
pyplot, so it works without a display and in threads. ``save`` writes a figure to a file, ``Live``
updates one during training. ``show_weights`` shows a window of pyplot.
"""

from .activity import potentials, raster
from .conversion import conversion
from .layers import histograms, rasters, traces
from .output import Live, save
from .timing import spike_times
from .training import confusion, curves
from .weights import receptive_fields, show_weights

__all__ = [
    "Live",
    "confusion",
    "conversion",
    "curves",
    "histograms",
    "potentials",
    "raster",
    "rasters",
    "receptive_fields",
    "save",
    "show_weights",
    "spike_times",
    "traces",
]


def __dir__() -> list[str]:
    return __all__
