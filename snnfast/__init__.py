"""Spiking neural networks in PyTorch with fused CPU and CUDA kernels."""

import gc as _gc
from importlib import import_module as _import_module
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

_collects = _gc.isenabled()
_gc.disable()  # in the middle of this import it would look through all objects of PyTorch, for a third of the time
try:
    from . import backend, nn, ops, plasticity, reference, surrogate
    from . import check as _check
finally:
    if _collects:
        _gc.enable()

if TYPE_CHECKING:
    from . import (
        checkpoint,
        connect,
        conversion,
        data,
        encoder,
        export,
        learning,
        loss,
        memory,
        model,
        monitoring,
        nir,
        optimizer,
        papers,
        ports,
        procedure,
        testing,
        threshold,
        train,
        visual,
        visualizer,
    )
    from .compiler.info import build_info
    from .conversion.convert import convert
    from .conversion.report import conversion_report
    from .export.write import export_c
    from .monitoring.watch import monitor
    from .nn.own_neuron import neuron
    from .procedure import load

__all__ = [
    "backend",
    "build_info",
    "checkpoint",
    "connect",
    "conversion",
    "conversion_report",
    "convert",
    "data",
    "encoder",
    "export",
    "export_c",
    "learning",
    "load",
    "loss",
    "memory",
    "model",
    "monitor",
    "monitoring",
    "neuron",
    "nir",
    "nn",
    "ops",
    "optimizer",
    "papers",
    "plasticity",
    "ports",
    "procedure",
    "reference",
    "surrogate",
    "testing",
    "threshold",
    "train",
    "visual",
    "visualizer",
]
try:
    __version__ = _version("snnfast")
except _PackageNotFoundError:
    raise ImportError(f"snnfast is not installed: {backend.load_problem or __path__[0]}") from None

_HOMES = {
    "build_info": "compiler.info",
    "conversion_report": "conversion",
    "convert": "conversion",
    "export_c": "export",
    "load": "procedure",
    "monitor": "monitoring",
    "neuron": "nn.own_neuron",
}

if not TYPE_CHECKING:

    def __getattr__(name):
        """Import a module on first use, since some import much."""
        if name not in __all__:
            inside = name in nn.__all__ and f"; did you mean 'snnfast.nn.{name}'?"
            hint = inside or _check.suggestion(name, __all__) or _check.suggestion(name, nn.__all__, "snnfast.nn.")
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        module = _import_module(f"{__name__}.{_HOMES.get(name, name)}")
        value = getattr(module, name) if name in _HOMES else module
        globals()[name] = value
        return value

    def __dir__():
        return sorted([*__all__, "__version__"])
