"""Layers: thin modules over :mod:`snnfast.ops`, for sequences ``[T, B, ...]``, time first."""

from .cuba import CubaLIF
from .lif import IF, LI, LIF, ParametricLIF
from .presets import like
from .readout import Count, Rate
from .state import detach, reset
from .time import Time

__all__ = [
    "IF",
    "LI",
    "LIF",
    "Count",
    "CubaLIF",
    "ParametricLIF",
    "Rate",
    "Time",
    "detach",
    "like",
    "reset",
]
