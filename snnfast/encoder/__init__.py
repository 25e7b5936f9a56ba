"""Encoders: data to spikes, time first, or to the time of one spike each."""

from .labels import desired_times, label_encoder
from .latency import Latency
from .poisson import PoissonEncoder
from .population import Population
from .regular import Regular
from .simple import Simple

__all__ = [
    "Latency",
    "PoissonEncoder",
    "Population",
    "Regular",
    "Simple",
    "desired_times",
    "label_encoder",
]
