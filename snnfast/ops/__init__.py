"""The ops: stateless functions with fused CPU and CUDA kernels behind them."""

from snnfast import backend
from snnfast.reference.bp_stdp_network import BpStdpNetworkResult
from snnfast.reference.diehl_cook import DiehlCookResult, DiehlCookState
from snnfast.reference.diehl_cook_conductance import (
    DiehlCookConductanceResult,
    DiehlCookConductanceState,
)
from snnfast.reference.presentations import Events, Rates
from snnfast.reference.stdp import StdpState

from . import scan as _scan
from .bp_stdp import bp_stdp
from .bp_stdp import register as _register_bp_stdp
from .bp_stdp_network import bp_stdp_network
from .bp_stdp_network import register as _register_bp_stdp_network
from .cuba import cuba
from .diehl_cook import diehl_cook
from .diehl_cook import register as _register_diehl_cook
from .diehl_cook_conductance import diehl_cook_conductance
from .diehl_cook_conductance import register as _register_diehl_cook_conductance
from .lif import iaf, li, lif
from .poisson import poisson
from .poisson import register as _register_poisson
from .spike_count import register as _register_spike_count
from .spike_count import spike_count
from .spikeprop import register as _register_spikeprop
from .spikeprop import spikeprop
from .stdp import register as _register_stdp
from .stdp import stdp

__all__ = [
    "BpStdpNetworkResult",
    "DiehlCookConductanceResult",
    "DiehlCookConductanceState",
    "DiehlCookResult",
    "DiehlCookState",
    "Events",
    "Rates",
    "StdpState",
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


def register(namespace: str) -> None:
    """Tells PyTorch how to trace and vmap the kernels of a namespace."""
    _scan.register(namespace, "lif", states=1, params=2)
    _scan.register(namespace, "cuba", states=2, params=3)
    _register_bp_stdp(namespace)
    _register_bp_stdp_network(namespace)
    _register_diehl_cook(namespace)
    _register_poisson(namespace)
    _register_diehl_cook_conductance(namespace)
    _register_spike_count(namespace)
    _register_spikeprop(namespace)
    _register_stdp(namespace)


if backend.extension is not None:
    register("snnfast")
