"""The library that a class comes from: :func:`library_of`."""

from __future__ import annotations

__all__ = ["library_of"]

# Packages of SpikingJelly by which a vendored copy is found, and that of snnfast.ports with its modules.
_SPIKINGJELLY = frozenset({"spikingjelly", "clock_driven", "activation_based", "older_spikingjelly"})


def library_of(kind: type) -> str:
    """Return the package of a class; ``spikingjelly`` for a vendored copy, too, as ``src.spikingjelly.neuron``."""
    package, *inner = kind.__module__.split(".")
    return package if _SPIKINGJELLY.isdisjoint(inner) else "spikingjelly"
