"""The layers that are made from their ops: neurons.pyi has their signatures."""

from snnfast.reference.neuron_arguments import NEURONS

from .from_op import FromOp, Readout

for _op, _neuron in NEURONS.items():
    if _neuron.layer:
        _base = FromOp if _neuron.fires else Readout
        globals()[_neuron.layer] = type(_neuron.layer, (_base,), {"op": _op, "__module__": __name__})
__all__ = sorted(neuron.layer for neuron in NEURONS.values() if neuron.layer)
