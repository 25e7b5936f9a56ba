"""Layers: thin modules over :mod:`snnfast.ops`. Multi-step: ``[T, B, ...]``, time first; stateless by default."""

from .lif import IF, LI, LIF
from .readout import Count, Rate
from .state import detach, reset
from .time import Time

__all__ = ["IF", "LI", "LIF", "Count", "Rate", "Time", "detach", "reset"]
