"""The ops: stateless functions with fused CPU and CUDA kernels behind them."""

from importlib import import_module
from pkgutil import iter_modules

from snnfast import backend
from snnfast.reference.bp_stdp_network import BpStdpNetworkResult
from snnfast.reference.diehl_cook_arguments import DiehlCookResult, DiehlCookState
from snnfast.reference.presentations import Events, Rates
from snnfast.reference.recurrent import recurrent as _recurrent
from snnfast.reference.spike_events import SpikeEvents
from snnfast.reference.stdp import StdpState

from . import neurons
from .batch_norm import batch_norm
from .bp_stdp import bp_stdp_
from .bp_stdp_network import bp_stdp_network_
from .delay import delay
from .diehl_cook import diehl_cook_
from .eventprop import eventprop
from .integer_lif import integer_lif
from .neuron import with_kernels as _with_kernels
from .neurons import *
from .poisson import poisson
from .pool2d import pool2d
from .sparse_linear import sparse_linear
from .sparse_recurrent import sparse_recurrent
from .sparse_stdp import sparse_stdp_
from .spike_conv2d import spike_conv2d
from .spike_count import spike_count
from .spike_linear import spike_linear
from .spikeprop import spikeprop
from .stdp import stdp_

__all__ = [
    *neurons.__all__,
    "BpStdpNetworkResult",
    "DiehlCookResult",
    "DiehlCookState",
    "Events",
    "Rates",
    "SpikeEvents",
    "StdpState",
    "batch_norm",
    "bp_stdp_",
    "bp_stdp_network_",
    "delay",
    "diehl_cook_",
    "eventprop",
    "integer_lif",
    "poisson",
    "pool2d",
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


recurrent = _with_kernels(_recurrent)
backend.OPS.update(name for name in __all__ if hasattr(globals()[name], "check"))


def register(namespace: str) -> None:
    """Register the kernels of a namespace with PyTorch, for tracing and vmap."""
    for module in iter_modules(__path__):
        names = vars(import_module(f"{__name__}.{module.name}"))
        if "register" in names:
            names["register"](namespace)


if backend.extension is not None:
    try:
        register("snnfast")
    except RuntimeError as error:
        raise ImportError(
            "snnfast: the compiled extension is older or newer than the Python files around it. Build it anew with "
            f"'pip install -e .' in the source folder ({error})"
        ) from error


def __dir__() -> list[str]:
    return __all__
