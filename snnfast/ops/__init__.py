"""The ops: stateless functions with fused CPU and CUDA kernels behind them."""

from importlib import import_module
from pkgutil import iter_modules

from snnfast import backend
from snnfast.calls.adlif import adlif as _adlif
from snnfast.calls.alif import alif as _alif
from snnfast.calls.bp_stdp_network import BpStdpNetworkResult
from snnfast.calls.cuba import cuba as _cuba
from snnfast.calls.cuba import cubali as _cubali
from snnfast.calls.diehl_cook import DiehlCookResult, DiehlCookState
from snnfast.calls.diehl_cook_conductance import (
    DiehlCookConductanceResult,
    DiehlCookConductanceState,
)
from snnfast.calls.eif import eif as _eif
from snnfast.calls.izhikevich import izhikevich as _izhikevich
from snnfast.calls.lif import iaf as _iaf
from snnfast.calls.lif import li as _li
from snnfast.calls.lif import lif as _lif
from snnfast.calls.normlif import normlif as _normlif
from snnfast.calls.presentations import Events, Rates
from snnfast.calls.qif import qif as _qif
from snnfast.calls.recurrent import recurrent as _recurrent
from snnfast.calls.stdp import StdpState

from . import neuron as _neuron
from .batch_norm import batch_norm
from .bp_stdp import bp_stdp_
from .bp_stdp_network import bp_stdp_network_
from .delay import delay
from .diehl_cook import diehl_cook_
from .diehl_cook_conductance import diehl_cook_conductance_
from .poisson import poisson
from .pool2d import pool2d
from .spike_conv2d import spike_conv2d
from .spike_count import spike_count
from .spike_linear import spike_linear
from .spikeprop import spikeprop
from .stdp import stdp_

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
    "batch_norm",
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
    "normlif",
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


adlif = _neuron.with_kernels(_adlif)
alif = _neuron.with_kernels(_alif)
cuba = _neuron.with_kernels(_cuba)
cubali = _neuron.with_kernels(_cubali)
eif = _neuron.with_kernels(_eif)
iaf = _neuron.with_kernels(_iaf)
izhikevich = _neuron.with_kernels(_izhikevich)
li = _neuron.with_kernels(_li)
lif = _neuron.with_kernels(_lif)
normlif = _neuron.with_kernels(_normlif)
qif = _neuron.with_kernels(_qif)
recurrent = _neuron.with_kernels(_recurrent)


def register(namespace: str) -> None:
    """Tells PyTorch how to trace and vmap the kernels of a namespace."""
    for module in iter_modules(__path__):
        own = vars(import_module(f"{__name__}.{module.name}"))
        if "register" in own:
            own["register"](namespace)


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
