"""Encoders: data to spikes, time first, or to the time of one spike each."""

from .latency import Latency
from .poisson import PoissonEncoder
from .population import Population
from .simple import Simple

__all__ = ["Latency", "PoissonEncoder", "Population", "Simple"]
