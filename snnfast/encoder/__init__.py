"""Encoders: data to spikes, time first, or to the time of one spike each."""

from typing import TYPE_CHECKING

from snnfast import check as _check

from .bernoulli import BernoulliEncoder
from .labels import desired_times, label_encoder
from .latency import LatencyEncoder
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

_check.keywords_of_classes(globals().get(name) for name in __all__)

_MANUAL = dict.fromkeys(("Population", "Simple"), "snnfast_zoo.n3ml.encoder")

if not TYPE_CHECKING:

    def __getattr__(name):
        """Return a name of n3ml's manual."""
        return _check.moved(__name__, name, _MANUAL)


def __dir__() -> list[str]:
    return __all__
