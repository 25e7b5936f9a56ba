"""Reader of connectomes: a list of edges as a file ``.npz``, ``.csv`` or ``.parquet``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnfast import check

from .own import plain_arrays

FORMATS = (".npz", ".csv", ".parquet")


class Edges(NamedTuple):
    """Edges between neurons that are numbered from 0 on, in the order of their names.

    Attributes:
        pre, post: the neurons of each edge, int64 ``[edges]``.
        weight: its weight, float64 ``[edges]``.
        ids: the name of each neuron in the file, int64 ``[neurons]``, ascending.
    """

    pre: np.ndarray[Any, Any]
    post: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any]
    ids: np.ndarray[Any, Any]


def read_edges(path: str | Path, *, pre: str = "pre", post: str = "post", weight: str = "weight") -> Edges:
    """Read edges from a file: arrays of an ``.npz``, or columns of a ``.csv`` with a header or of a ``.parquet``.

    Args:
        path: the file; ``.parquet`` needs pyarrow.
        pre: name of the column with the presynaptic neuron of each edge, an integer.
        post: name of the column with the postsynaptic neuron, likewise.
        weight: name of the column with its weight, negative for inhibition, such as a signed number of synapses.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: pyarrow is missing.
        ValueError: for another kind of file, a missing column, and values that are no numbers.
    """
    path, op = Path(path).expanduser(), "read_edges"
    if path.suffix not in FORMATS:
        raise ValueError(f"{op}: the file must end in {', '.join(FORMATS)}, got {path}")
    if not path.is_file():
        raise FileNotFoundError(f"{op}: there is no file {path}")
    columns = {".npz": _of_npz, ".csv": _of_csv, ".parquet": _of_parquet}[path.suffix](path, (pre, post, weight))
    ends = []
    for name, values in zip((pre, post), columns):
        if values.dtype.kind not in "iu":
            raise ValueError(f"{op}: {name} in {path} must hold integers, got {values.dtype}")
        ends.append(values.astype(np.int64))
    values = columns[2]
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"{op}: {weight} in {path} must hold finite numbers, got {values.dtype} or NaN")
    if {c.shape for c in columns} != {(len(values),)} or not len(values):
        shapes = ", ".join(str(list(c.shape)) for c in columns)
        raise ValueError(f"{op}: {pre}, {post} and {weight} in {path} must be as long as one another, got {shapes}")
    ids, numbers = np.unique(np.concatenate(ends), return_inverse=True)
    sources, targets = np.split(numbers.reshape(-1), 2)
    return Edges(sources, targets, values.astype(np.float64), ids)


def _of_npz(path: Path, names: tuple[str, ...]) -> list[np.ndarray[Any, Any]]:
    arrays = plain_arrays(path)
    _known(path, names, list(arrays))
    return [arrays[name] for name in names]


def _of_csv(path: Path, names: tuple[str, ...]) -> list[np.ndarray[Any, Any]]:
    with path.open() as file:
        header = [name.strip().strip('"') for name in file.readline().split(",")]
    _known(path, names, header)
    found = []
    for name, dtype in zip(names, (np.int64, np.int64, np.float64)):  # names of neurons exceed what float64 holds
        try:
            found.append(np.loadtxt(path, dtype, delimiter=",", skiprows=1, usecols=header.index(name), ndmin=1))
        except ValueError as error:
            raise ValueError(f"read_edges: {name} in {path} must hold numbers: {error}") from error
    return found


def _of_parquet(path: Path, names: tuple[str, ...]) -> list[np.ndarray[Any, Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError("read_edges: .parquet needs pyarrow: pip install pyarrow, or save a .npz") from error
    _known(path, names, parquet.read_schema(path).names)
    table = parquet.read_table(path, columns=list(names))
    return [table[name].to_numpy() for name in names]


def _known(path: Path, names: tuple[str, ...], known: list[str]) -> None:
    for name in names:
        if name not in known:
            hint = check.suggestion(name, known)
            raise ValueError(f"read_edges: {path} has no column {name!r}; it has {', '.join(known)}{hint}")
