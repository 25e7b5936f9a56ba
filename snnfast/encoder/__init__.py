"""Encoders: data to spikes, time first, or to the time of one spike each."""

from .bernoulli import BernoulliEncoder
from .labels import desired_times, label_encoder
from .latency import LatencyEncoder
from .manual import Population, Simple
from .poisson import PoissonEncoder
from .population import PopulationEncoder
from .recorded import Recorded, from_times, to_times
from .regular import RegularEncoder

__all__ = [
    "BernoulliEncoder",
    "LatencyEncoder",
    "PoissonEncoder",
    "Population",
    "PopulationEncoder",
    "Recorded",
    "RegularEncoder",
    "Simple",
    "desired_times",
    "from_times",
    "label_encoder",
    "to_times",
]


def __dir__() -> list[str]:
    return __all__
