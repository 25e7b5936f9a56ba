"""Sparse connections as values: from edges, matrices or random rules to rows of synapses by presynaptic neuron."""

from .connectivity import Connectivity, concatenate, from_blocks, from_dense, from_edges, from_torch
from .part import Part
from .poisson_noise import PoissonNoise
from .random_rules import fixed_indegree, fixed_outdegree, fixed_probability, fixed_total, one_to_one

DEVICES = ("cpu", "cuda")  # with kernels

__all__ = [
    "Connectivity",
    "Part",
    "PoissonNoise",
    "concatenate",
    "fixed_indegree",
    "fixed_outdegree",
    "fixed_probability",
    "fixed_total",
    "from_blocks",
    "from_dense",
    "from_edges",
    "from_torch",
    "one_to_one",
]
