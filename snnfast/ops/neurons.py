"""Ops of the neurons, from their equations in :mod:`snnfast.reference`: neurons.pyi has their signatures."""

from snnfast.reference.neuron_arguments import NEURONS

from .neuron import with_kernels

globals().update({name: with_kernels(neuron.check) for name, neuron in NEURONS.items()})
__all__ = sorted(NEURONS)
