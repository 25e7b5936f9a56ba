"""Ops of the neurons; :mod:`snnfast.reference` has their equations and their argument checks."""

from snnfast import reference

from .neuron import with_kernels

__all__ = ["adlif", "alif", "cuba", "cubali", "eif", "iaf", "izhikevich", "li", "lif", "qif"]

adlif = with_kernels(reference.adlif)
alif = with_kernels(reference.alif)
cuba = with_kernels(reference.cuba)
cubali = with_kernels(reference.cubali)
eif = with_kernels(reference.eif)
iaf = with_kernels(reference.iaf)
izhikevich = with_kernels(reference.izhikevich)
li = with_kernels(reference.li)
lif = with_kernels(reference.lif)
qif = with_kernels(reference.qif)
