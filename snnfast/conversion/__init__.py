"""Conversion of ReLU networks to spiking networks: :func:`snnfast.convert`, thresholds, and reports."""

from .convert import METHODS, convert, fine_tune, quantise
from .network import SpikingNetwork
from .neurons import Neurons
from .qcfs import QCFS
from .report import ConversionReport, LayerReport, ProductReport, conversion_report
from .stream import Stream
from .thresholds import thresholds_from_activations, thresholds_from_currents

__all__ = [
    "METHODS",
    "QCFS",
    "ConversionReport",
    "LayerReport",
    "Neurons",
    "ProductReport",
    "SpikingNetwork",
    "Stream",
    "conversion_report",
    "convert",
    "fine_tune",
    "quantise",
    "thresholds_from_activations",
    "thresholds_from_currents",
]


def __dir__() -> list[str]:
    return __all__
