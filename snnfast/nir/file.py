"""NIR files, which are HDF5: :func:`read` and :func:`write`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from snnfast.files.atomic import replacing

from .export import to_nir
from .layers import Graph
from .load import from_nir
from .package import package

__all__ = ["read", "write"]


def write(path: str | Path, net: nn.Module, input_shape: Sequence[int], *, dt: float, scheme: str) -> None:
    """Write ``net`` as the NIR file ``path``; for other arguments and errors see :func:`snnfast.nir.to_nir`.

    Raises:
        OSError: the file cannot be written.
    """
    graph = to_nir(net, input_shape, dt=dt, scheme=scheme)
    try:
        with replacing(Path(path)) as new:
            package("nir.write").write(str(new), graph)
    except OSError as error:  # errors of h5py may lack the path
        words = " ".join(str(error).split())
        raise OSError(f"nir.write: {path} cannot be written: {words}") from error


def read(path: str | Path, *, dt: float | None = None, scheme: str | None = None) -> Graph:
    """Read the network in the NIR file ``path``; for other arguments and errors see :func:`snnfast.nir.from_nir`.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, or no NIR file; the message has the path and the node.
    """
    nir = package("nir.read")
    if not _strings_end(Path(path).read_bytes()):
        raise ValueError(f"nir.read: {path} is damaged, or no NIR file: its strings have no end")
    try:
        try:
            graph = nir.read(str(path), type_check=False)
        except AssertionError:
            graph = _with_one_shape(nir, path)
    except Exception as error:  # nir may raise anything
        if isinstance(error, OSError) and error.errno is not None:  # errors of HDF5 itself have no errno
            raise
        node = _unreadable(nir, path)
        raise ValueError(
            f"nir.read: {path} is damaged, or no NIR file: {node}{type(error).__name__}: {error}"
        ) from error
    try:
        return from_nir(graph, dt=dt, scheme=scheme)
    except ValueError as error:
        raise ValueError(f"nir.read: {path}: {error}") from error


# Fields that nir requires in the same shape, that of the neurons.
_OF_NEURONS = ("tau", "tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in")


def _with_one_shape(nir: Any, path: str | Path) -> Any:
    """Read a file whose neurons have fields ``[n, 1]`` or numbers beside ``[n]``, as Rockpool writes them."""
    import h5py  # a dependency of nir

    def shape(node: dict[str, Any]) -> None:
        for inner in node.get("nodes", {}).values():
            shape(inner)
        fields = {name: np.asarray(node[name]) for name in _OF_NEURONS if name in node}
        if not fields:
            return
        most = max(fields.values(), key=lambda value: (value.size, -value.ndim))
        for name, value in fields.items():
            if value.size in (1, most.size):
                value = value.reshape(most.shape if value.size == most.size else ())
                node[name] = np.broadcast_to(value, most.shape).copy()

    with h5py.File(path, "r") as file:
        graph = nir.serialization.hdf2dict(file["node"])
    shape(graph)
    return nir.dict2NIRNode(graph | {"type_check": False})


def _strings_end(data: bytes) -> bool:
    """Return whether each object in a string heap lies within it and has a size; else HDF5 2.0 never stops reading.

    HDF5 file format 3.0, section III.E: a header of 16 bytes, objects of header and padded data; index 0: free space.
    """
    for found in re.finditer(b"GCOL\x01", data):
        offset = found.start() + 16
        end = found.start() + int.from_bytes(data[offset - 8 : offset], "little")
        while offset + 16 <= end:
            free, size = (
                data[offset : offset + 2] == b"\0\0",
                int.from_bytes(data[offset + 8 : offset + 16], "little"),
            )
            offset += size if free else 16 + -(-size // 8) * 8
            if offset > min(end, len(data)) or (free and size < 16):
                return False
    return True


def _unreadable(nir: Any, path: str | Path) -> str:
    """Return the first node that cannot be read, for an error message, or an empty string."""
    import h5py  # a dependency of nir

    def first(group: Any, prefix: str) -> str:
        for name in group:
            place = f"{prefix}{name}"
            try:
                inner = group[name].get("nodes")
                found = "" if inner is None else first(inner, f"{place}.")
                if found:
                    return found
                nir.dict2NIRNode(nir.serialization.hdf2dict(group[name]))
            except Exception:
                return f"the node {place}: "
        return ""

    try:
        with h5py.File(path, "r") as file:
            return first(file["node"]["nodes"], "")
    except Exception:
        return ""
