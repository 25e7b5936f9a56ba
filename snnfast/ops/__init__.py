"""The ops: stateless functions with fused CPU and CUDA kernels behind them."""

from snnfast import backend
from snnfast.calls import spike_count as _spike_count_call
from snnfast.calls.call import public
from snnfast.reference.alif import alif as _alif
from snnfast.reference.bp_stdp_network import BpStdpNetworkResult
from snnfast.reference.cuba import cuba as _cuba
from snnfast.reference.diehl_cook import DiehlCookResult, DiehlCookState
from snnfast.reference.diehl_cook_conductance import (
    DiehlCookConductanceResult,
    DiehlCookConductanceState,
)
from snnfast.reference.lif import iaf as _iaf
from snnfast.reference.lif import li as _li
from snnfast.reference.lif import lif as _lif
from snnfast.reference.presentations import Events, Rates
from snnfast.reference.stdp import StdpState

from . import neuron as _neuron
from . import spike_count as _spike_count
from .bp_stdp import bp_stdp
from .bp_stdp import register as _register_bp_stdp
from .bp_stdp_network import bp_stdp_network
from .bp_stdp_network import register as _register_bp_stdp_network
from .diehl_cook import diehl_cook
from .diehl_cook import register as _register_diehl_cook
from .diehl_cook_conductance import diehl_cook_conductance
from .diehl_cook_conductance import register as _register_diehl_cook_conductance
from .poisson import poisson
from .poisson import register as _register_poisson
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
    "alif",
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


alif = _neuron.neuron(_alif)
cuba = _neuron.neuron(_cuba)
iaf = _neuron.neuron(_iaf)
li = _neuron.neuron(_li)
lif = _neuron.neuron(_lif)
spike_count = public(_spike_count_call.spike_count, _spike_count.run, __name__)


def register(namespace: str) -> None:
    """Tells PyTorch how to trace and vmap the kernels of a namespace."""
    _neuron.register(namespace)
    _register_bp_stdp(namespace)
    _register_bp_stdp_network(namespace)
    _register_diehl_cook(namespace)
    _register_poisson(namespace)
    _register_diehl_cook_conductance(namespace)
    _spike_count.register(namespace)
    _register_spikeprop(namespace)
    _register_stdp(namespace)


if backend.extension is not None:
    register("snnfast")
