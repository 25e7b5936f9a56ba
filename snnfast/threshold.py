"""The thresholds of :mod:`snnfast.conversion` by the names and with the arguments of n3ml's manual."""

from snnfast_zoo.n3ml.threshold import *  # noqa: F403
from snnfast_zoo.n3ml.threshold import __all__ as __all__
