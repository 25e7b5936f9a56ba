"""Spiking neural networks in PyTorch with fused CPU and CUDA kernels."""

from importlib.metadata import version as _version

from . import (
    backend,
    encoder,
    learning,
    loss,
    memory,
    model,
    nn,
    ops,
    optimizer,
    plasticity,
    reference,
    surrogate,
)
from .info import build_info

__all__ = [
    "backend",
    "build_info",
    "encoder",
    "learning",
    "loss",
    "memory",
    "model",
    "nn",
    "ops",
    "optimizer",
    "plasticity",
    "reference",
    "surrogate",
]
__version__ = _version("snnfast")
