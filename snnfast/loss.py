"""Losses on spike times, on sequences of spikes and membranes, and on rates; the decision by the first spike."""

from .nn.loss import *  # noqa: F403
from .nn.loss import __all__ as __all__
from .nn.loss import __dir__ as __dir__
