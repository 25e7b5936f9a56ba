"""Rules of spike-timing-dependent plasticity: how traces of spikes change a weight."""

from .reference.plasticity import *  # noqa: F403
from .reference.plasticity import __all__ as __all__
from .reference.plasticity import __dir__ as __dir__
