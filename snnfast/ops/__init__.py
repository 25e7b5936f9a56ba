"""The ops: stateless functions with fused CPU and CUDA kernels behind them."""

from snnfast import backend
from snnfast.calls.bp_stdp import bp_stdp_ as _bp_stdp_call
from snnfast.calls.bp_stdp_network import BpStdpNetworkResult
from snnfast.calls.bp_stdp_network import bp_stdp_network_ as _bp_stdp_network_call
from snnfast.calls.call import public
from snnfast.calls.delay import delay as _delay_call
from snnfast.calls.diehl_cook import DiehlCookResult, DiehlCookState
from snnfast.calls.diehl_cook import diehl_cook_ as _diehl_cook_call
from snnfast.calls.diehl_cook_conductance import (
    DiehlCookConductanceResult,
    DiehlCookConductanceState,
)
from snnfast.calls.diehl_cook_conductance import diehl_cook_conductance_ as _conductance_call
from snnfast.calls.poisson import poisson as _poisson_call
from snnfast.calls.pool2d import pool2d as _pool2d_call
from snnfast.calls.presentations import Events, Rates
from snnfast.calls.spike_conv2d import spike_conv2d as _spike_conv2d_call
from snnfast.calls.spike_count import spike_count as _spike_count_call
from snnfast.calls.spike_linear import spike_linear as _spike_linear_call
from snnfast.calls.spikeprop import spikeprop as _spikeprop_call
from snnfast.calls.stdp import StdpState
from snnfast.calls.stdp import stdp_ as _stdp_call
from snnfast.reference.adlif import adlif as _adlif
from snnfast.reference.alif import alif as _alif
from snnfast.reference.cuba import cuba as _cuba
from snnfast.reference.cuba import cubali as _cubali
from snnfast.reference.eif import eif as _eif
from snnfast.reference.izhikevich import izhikevich as _izhikevich
from snnfast.reference.lif import iaf as _iaf
from snnfast.reference.lif import li as _li
from snnfast.reference.lif import lif as _lif
from snnfast.reference.qif import qif as _qif
from snnfast.reference.recurrent import recurrent as _recurrent

from . import bp_stdp as _bp_stdp
from . import bp_stdp_network as _bp_stdp_network
from . import delay as _delay
from . import diehl_cook as _diehl_cook
from . import diehl_cook_conductance as _conductance
from . import neuron as _neuron
from . import poisson as _poisson
from . import pool2d as _pool2d
from . import spike_conv2d as _spike_conv2d
from . import spike_count as _spike_count
from . import spike_linear as _spike_linear
from . import spikeprop as _spikeprop
from . import stdp as _stdp

__all__ = [
    "BpStdpNetworkResult",
    "DiehlCookConductanceResult",
    "DiehlCookConductanceState",
    "DiehlCookResult",
    "DiehlCookState",
    "Events",
    "Rates",
    "StdpState",
    "adlif",
    "alif",
    "bp_stdp_",
    "bp_stdp_network_",
    "cuba",
    "cubali",
    "delay",
    "diehl_cook_",
    "diehl_cook_conductance_",
    "eif",
    "iaf",
    "izhikevich",
    "li",
    "lif",
    "poisson",
    "pool2d",
    "qif",
    "recurrent",
    "spike_conv2d",
    "spike_count",
    "spike_linear",
    "spikeprop",
    "stdp_",
]


adlif = _neuron.neuron(_adlif)
alif = _neuron.neuron(_alif)
bp_stdp_ = public(_bp_stdp_call, _bp_stdp.run, __name__)
bp_stdp_network_ = public(_bp_stdp_network_call, _bp_stdp_network.run, __name__)
cuba = _neuron.neuron(_cuba)
cubali = _neuron.neuron(_cubali)
delay = public(_delay_call, _delay.run, __name__)
diehl_cook_ = public(_diehl_cook_call, _diehl_cook.run, __name__)
diehl_cook_conductance_ = public(_conductance_call, _conductance.run, __name__)
eif = _neuron.neuron(_eif)
iaf = _neuron.neuron(_iaf)
izhikevich = _neuron.neuron(_izhikevich)
li = _neuron.neuron(_li)
lif = _neuron.neuron(_lif)
poisson = public(_poisson_call, _poisson.run, __name__)
pool2d = public(_pool2d_call, _pool2d.run, __name__)
qif = _neuron.neuron(_qif)
recurrent = _neuron.neuron(_recurrent)
spike_conv2d = public(_spike_conv2d_call, _spike_conv2d.run, __name__)
spike_count = public(_spike_count_call, _spike_count.run, __name__)
spike_linear = public(_spike_linear_call, _spike_linear.run, __name__)
spikeprop = public(_spikeprop_call, _spikeprop.run, __name__)
stdp_ = public(_stdp_call, _stdp.run, __name__)


def register(namespace: str) -> None:
    """Tells PyTorch how to trace and vmap the kernels of a namespace."""
    _neuron.register(namespace)
    _delay.register(namespace)
    _diehl_cook.register(namespace)
    _conductance.register(namespace)
    _bp_stdp.register(namespace)
    _bp_stdp_network.register(namespace)
    _poisson.register(namespace)
    _pool2d.register(namespace)
    _spike_conv2d.register(namespace)
    _spike_count.register(namespace)
    _spike_linear.register(namespace)
    _spikeprop.register(namespace)
    _stdp.register(namespace)


if backend.extension is not None:
    try:
        register("snnfast")
    except RuntimeError as error:
        raise ImportError(
            "snnfast: the compiled extension is older or newer than the Python files around it. Build it anew with "
            f"'pip install -e .' in the source folder ({error})"
        ) from error
