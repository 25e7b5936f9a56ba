"""Activity of a running network, layer by layer: spikes, membrane potentials, synaptic operations, energy."""

from .activity import Activity, NeuronActivity, ProductActivity
from .tally import Tally
from .watch import Monitor, monitor

__all__ = ["Activity", "Monitor", "NeuronActivity", "ProductActivity", "Tally", "monitor"]


def __dir__() -> list[str]:
    return __all__
