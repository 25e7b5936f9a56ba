"""Layers: thin modules over :mod:`snnfast.ops`, for sequences ``[T, B, ...]``, time first, or for spike times."""

from typing import TYPE_CHECKING

from snnfast import check as _check

from .accelerate import accelerate
from .adlif import AdLIF
from .alif import ALIF
from .calibration import calibrate_
from .cuba import CubaLI, CubaLIF
from .delay import Delay
from .eif import EIF
from .fuse import fuse
from .izhikevich import Izhikevich
from .lif import IF, LI, LIF, ParametricLIF
from .normlif import NormLIF
from .patch_conv2d import PatchConv2d
from .pooled import Pooled
from .presets import NAMES as _OTHER_LIBRARIES
from .presets import like
from .qif import QIF
from .readout import Count, FirstSpike, Last, Max, Rate, within
from .recurrent import RLIF, Recurrent
from .replace import replace
from .sequential import Sequential
from .spike_conv2d import SpikeConv2d
from .spike_linear import SpikeLinear
from .spikeprop import SpikeProp, calibrate
from .state import detach, reset
from .time import Time

__all__ = [
    "ALIF",
    "EIF",
    "IF",
    "LI",
    "LIF",
    "QIF",
    "RLIF",
    "AdLIF",
    "Count",
    "CubaLI",
    "CubaLIF",
    "Delay",
    "FirstSpike",
    "Izhikevich",
    "Last",
    "Max",
    "NormLIF",
    "ParametricLIF",
    "PatchConv2d",
    "Pooled",
    "Rate",
    "Recurrent",
    "Sequential",
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
    "replace",
    "reset",
    "within",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        """Names the nearest layer, of a neuron of another library the call that makes it."""
        other = [preset for preset in _OTHER_LIBRARIES if preset.endswith(f".{name}")]
        hint = f"; snnfast.nn.like({other[0]!r}) makes it" if other else _check.near(name, __all__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")

    def __dir__():
        return __all__
