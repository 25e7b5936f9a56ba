"""Layers: thin modules over :mod:`snnfast.ops`, for sequences ``[T, B, ...]``, time first, or for spike times."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from snnfast import check as _check

from . import neurons
from .accelerate import accelerate
from .adlif import AdLIF
from .calibration import calibrate_
from .cuba_lif import CubaLIF
from .delay import Delay
from .eventprop import EventProp, EventReadout
from .fuse import fuse
from .ilif import ILIF
from .integer_lif import IntegerLIF
from .neurons import *
from .parametric_lif import ParametricLIF
from .psn import PSN, SlidingPSN
from .quantize import quantize
from .rate_pool import RatePool
from .readout import Count, FirstSpike, Last, Max, Rate, within
from .recomputed import Recomputed
from .recurrent import RLIF, Recurrent
from .sequential import Sequential
from .sparse_linear import SparseLinear
from .sparse_recurrent import SparseRecurrent
from .spike_conv2d import SpikeConv2d
from .spike_linear import SpikeLinear
from .spikeprop import SpikeProp, calibrate
from .state import detach, reset
from .time import Time

__all__ = [
    *neurons.__all__,
    "ILIF",
    "PSN",
    "RLIF",
    "AdLIF",
    "Count",
    "CubaLIF",
    "Delay",
    "EventProp",
    "EventReadout",
    "FirstSpike",
    "IntegerLIF",
    "Last",
    "Max",
    "ParametricLIF",
    "Rate",
    "RatePool",
    "Recomputed",
    "Recurrent",
    "Sequential",
    "SlidingPSN",
    "SparseLinear",
    "SparseRecurrent",
    "SpikeConv2d",
    "SpikeLinear",
    "SpikeProp",
    "Time",
    "accelerate",
    "calibrate",
    "calibrate_",
    "detach",
    "fuse",
    "like",
    "quantize",
    "replace",
    "reset",
    "within",
]

_check.keywords_of_classes(globals().get(name) for name in __all__)

_PORTS = dict.fromkeys(("like", "replace"), "snnfast.ports")

if TYPE_CHECKING:
    from . import loss as loss

    like: Any
    replace: Any
else:

    def __getattr__(name):
        """Return a function of snnfast.ports or the losses; else raise with the nearest layer, or another library's."""
        if name == "loss":
            return _import_module(f"{__name__}.loss")
        if name in _PORTS:
            return _check.moved(__name__, name, _PORTS)
        presets = _check.moved(__name__, "PRESETS", {"PRESETS": "snnfast.ports.presets"})
        other = [preset for preset in presets if preset.endswith(f".{name}")]
        hint = f"; snnfast.nn.like({other[0]!r}) makes it" if other else _check.suggestion(name, __all__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")

    def __dir__():
        return __all__
