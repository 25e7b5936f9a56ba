"""NIR's files, HDF5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from .export import to_nir
from .layers import Graph
from .load import from_nir
from .package import package

__all__ = ["read", "write"]


def write(
    path: str | Path,
    net: nn.Module,
    input_shape: Sequence[int],
    *,
    dt: float,
    scheme: str,
) -> None:
    """Writes ``net`` as the NIR file ``path``; other arguments and errors are those of :func:`snnfast.nir.to_nir`.

    Raises:
        OSError: the file cannot be written.
    """
    graph = to_nir(net, input_shape, dt=dt, scheme=scheme)
    package("nir.write").write(str(path), graph)


def read(path: str | Path, *, dt: float | None = None, scheme: str | None = None) -> Graph:
    """The network in the NIR file ``path``; other arguments and errors are those of :func:`snnfast.nir.from_nir`.

    Raises:
        OSError: the file cannot be read.
    """
    return from_nir(package("nir.read").read(str(path), type_check=False), dt=dt, scheme=scheme)
