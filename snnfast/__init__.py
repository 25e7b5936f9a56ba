"""Spiking neural networks in PyTorch with fused CPU and CUDA kernels."""

from importlib.metadata import version as _version

from . import backend, nn, ops, reference, surrogate

__all__ = ["backend", "nn", "ops", "reference", "surrogate"]
__version__ = _version("snnfast")
