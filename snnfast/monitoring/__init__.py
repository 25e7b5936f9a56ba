"""What a network does while it runs: spikes, membranes, synaptic operations, energy, layer by layer."""

from .activity import Activity, NeuronActivity, ProductActivity
from .tally import Tally
from .watch import Monitor, monitor

__all__ = ["Activity", "Monitor", "NeuronActivity", "ProductActivity", "Tally", "monitor"]


def __dir__() -> list[str]:
    return __all__
