"""Encoders: data to spikes, time first."""

from .poisson import PoissonEncoder
from .simple import Simple

__all__ = ["PoissonEncoder", "Simple"]
