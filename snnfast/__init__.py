"""Spiking neural networks in PyTorch with fused CPU and CUDA kernels."""

from importlib.metadata import version as _version

from . import (
    backend,
    conversion,
    encoder,
    learning,
    loss,
    memory,
    model,
    nn,
    ops,
    optimizer,
    plasticity,
    procedure,
    reference,
    surrogate,
    threshold,
)
from .conversion import conversion_report, convert
from .info import build_info

__all__ = [
    "backend",
    "build_info",
    "conversion",
    "conversion_report",
    "convert",
    "encoder",
    "learning",
    "loss",
    "memory",
    "model",
    "nn",
    "ops",
    "optimizer",
    "plasticity",
    "procedure",
    "reference",
    "surrogate",
    "threshold",
]
__version__ = _version("snnfast")
