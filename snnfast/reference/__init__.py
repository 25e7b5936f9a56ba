"""The ops in plain PyTorch, with the same signatures: the test oracle, the documentation and the third backend.

``snnfast/reference/<stem>.py`` defines an op except for its kernels: its call, a named tuple of checked arguments; its
equation, a function of the call; and its public signature and documentation, a function that checks arguments and
returns the call. Kernels, their fakes and the equation read fields of the call by name; the fields are the arguments of
the C++ operator in the same order (``csrc/ops/<stem>.cpp``). For neurons, ``neuron.py`` derives all of this from the
equation of a step.
"""

from .adlif import adlif
from .alif import alif
from .batch_norm import batch_norm
from .bp_stdp import bp_stdp_
from .bp_stdp_network import bp_stdp_network_
from .cuba import cuba, cubali
from .delay import delay
from .diehl_cook import diehl_cook_
from .eif import eif
from .eventprop import eventprop
from .integer_lif import integer_lif
from .izhikevich import izhikevich
from .lif import iaf, li, lif
from .poisson import poisson
from .pool2d import pool2d
from .qif import qif
from .recurrent import recurrent
from .sparse_linear import sparse_linear
from .sparse_recurrent import sparse_recurrent
from .sparse_stdp import sparse_stdp_
from .spike_conv2d import spike_conv2d
from .spike_count import spike_count
from .spike_linear import spike_linear
from .spikeprop import spikeprop
from .stdp import stdp_

__all__ = [
    "adlif",
    "alif",
    "batch_norm",
    "bp_stdp_",
    "bp_stdp_network_",
    "cuba",
    "cubali",
    "delay",
    "diehl_cook_",
    "eif",
    "eventprop",
    "iaf",
    "integer_lif",
    "izhikevich",
    "li",
    "lif",
    "poisson",
    "pool2d",
    "qif",
    "recurrent",
    "sparse_linear",
    "sparse_recurrent",
    "sparse_stdp_",
    "spike_conv2d",
    "spike_count",
    "spike_linear",
    "spikeprop",
    "stdp_",
]
