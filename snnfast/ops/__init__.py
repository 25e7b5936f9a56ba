"""The ops: stateless functions with fused CPU and CUDA kernels behind them."""

from snnfast import backend, reference
from snnfast.calls.alif import AlifCall
from snnfast.calls.call import public
from snnfast.calls.cuba import CubaCall
from snnfast.calls.diehl_cook import DiehlCookCall, DiehlCookResult, DiehlCookState
from snnfast.calls.diehl_cook_conductance import (
    DiehlCookConductanceCall,
    DiehlCookConductanceResult,
    DiehlCookConductanceState,
)
from snnfast.calls.lif import LifCall
from snnfast.calls.presentations import Events, Rates
from snnfast.calls.stdp import StdpState
from snnfast.reference.bp_stdp_network import BpStdpNetworkResult

from . import diehl_cook as _diehl_cook
from . import neuron as _neuron
from . import spike_count as _spike_count
from . import stdp as _stdp
from .bp_stdp import bp_stdp
from .bp_stdp import register as _register_bp_stdp
from .bp_stdp_network import bp_stdp_network
from .bp_stdp_network import register as _register_bp_stdp_network
from .poisson import poisson
from .poisson import register as _register_poisson
from .spikeprop import register as _register_spikeprop
from .spikeprop import spikeprop

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


alif = _neuron.neuron(reference.alif)
cuba = _neuron.neuron(reference.cuba)
diehl_cook = _diehl_cook.network(reference.diehl_cook)
diehl_cook_conductance = _diehl_cook.network(reference.diehl_cook_conductance)
iaf = _neuron.neuron(reference.iaf, "lif")
li = _neuron.neuron(reference.li, "lif")
lif = _neuron.neuron(reference.lif)
spike_count = public(reference.spike_count.check, _spike_count.run, __name__)
stdp = public(reference.stdp.check, _stdp.run, __name__)


def register(namespace: str) -> None:
    """Tells PyTorch how to trace and vmap the kernels of a namespace."""
    _neuron.register(namespace, "alif", AlifCall)
    _neuron.register(namespace, "cuba", CubaCall)
    _neuron.register(namespace, "lif", LifCall)
    _diehl_cook.register(namespace, "diehl_cook", DiehlCookCall)
    _diehl_cook.register(namespace, "diehl_cook_conductance", DiehlCookConductanceCall)
    _register_bp_stdp(namespace)
    _register_bp_stdp_network(namespace)
    _register_poisson(namespace)
    _spike_count.register(namespace)
    _register_spikeprop(namespace)
    _stdp.register(namespace)


if backend.extension is not None:
    register("snnfast")
