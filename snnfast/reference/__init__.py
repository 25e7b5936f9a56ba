"""The ops in plain PyTorch, with the same signatures: the test oracle, the documentation and the third backend."""

from .bp_stdp import bp_stdp
from .bp_stdp_network import bp_stdp_network
from .cuba import cuba
from .diehl_cook import diehl_cook
from .diehl_cook_conductance import diehl_cook_conductance
from .lif import iaf, li, lif
from .poisson import poisson
from .spike_count import spike_count
from .spikeprop import spikeprop
from .stdp import stdp

__all__ = [
    "bp_stdp",
    "bp_stdp_network",
    "cuba",
    "diehl_cook",
    "diehl_cook_conductance",
    "iaf",
    "li",
    "lif",
    "poisson",
    "spike_count",
    "spikeprop",
    "stdp",
]
