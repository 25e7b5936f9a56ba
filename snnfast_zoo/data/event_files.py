"""File formats of event recordings: HDF5 of SHD and SSC, N-MNIST, AEDAT 3.1. Nothing is unpickled."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
GESTURES = 11
COLUMNS = ("class", "startTime_usec", "endTime_usec")


class Recording(NamedTuple):
    """A sample: times in microseconds from its beginning, addresses of the events, and a class."""

    times: npt.NDArray[Any]
    addresses: Ints
    label: int


def read_heidelberg(path: Path, units: int) -> Iterator[Recording]:
    """Yield the samples of an HDF5 file with ``spikes/times`` in seconds, ``spikes/units`` and ``labels``.

    Raises:
        ImportError: without h5py.
        ValueError: a file of another kind, units that do not exist, times below 0, labels that are no classes.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"heidelberg: {path} is HDF5, which h5py reads: pip install '.[events]' in the folder of snnfast"
        ) from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"heidelberg: {path} is no HDF5 file: {error}") from error
    with file:
        for name in ("spikes/times", "spikes/units", "labels"):
            if name not in file:
                raise ValueError(f"heidelberg: {path} must have {name}, got {', '.join(file)}")
        times, found, labels = file["spikes/times"], file["spikes/units"], file["labels"]
        shapes = [getattr(part, "shape", ()) for part in (times, found, labels)]
        if not (len(shapes[0]) == 1 and shapes[0] == shapes[1] == shapes[2]):
            raise ValueError(
                f"heidelberg: {path} must hold equally many times, units and labels, got shapes "
                f"{', '.join(str(list(shape)) for shape in shapes)}"
            )
        for k in range(len(labels)):
            where = f"heidelberg: sample {k} of {path}"
            seconds, addresses = np.asarray(times[k]), np.asarray(found[k])
            if not (seconds.dtype.kind in "iuf" and addresses.dtype.kind in "iuf"):
                raise ValueError(f"{where}: times and units must be numbers, got {seconds.dtype} and {addresses.dtype}")
            seconds = seconds.astype(np.float64)
            if seconds.shape != addresses.shape:
                raise ValueError(f"{where} has {len(seconds)} times and {len(addresses)} units")
            check_addresses(where, "units", addresses, units)
            label = np.asarray(labels[k])
            if label.shape or label.dtype.kind not in "iu" or label < 0:
                raise ValueError(f"{where}: its label must be an integer from 0 on, got {label}")
            if not bool(np.all((seconds >= 0) & (seconds < 1e6))):
                raise ValueError(f"{where}: times must lie in [0, 1e6) s")
            microseconds = np.rint(seconds * 1e6).astype(np.int64)
            yield Recording(microseconds, addresses.astype(np.int64), int(label))


def read_nmnist(path: Path, label: int, side: int) -> Recording:
    """Read a recording of N-MNIST: per event x, y, a polarity bit and 23 bits of microseconds.

    Raises:
        ValueError: a length that is no multiple of five, or pixels outside of the sensor.
    """
    raw = np.fromfile(path, np.uint8)
    if raw.size % 5:
        raise ValueError(f"nmnist: {path} must have five bytes an event, got {raw.size} bytes")
    x, y, high, middle, low = (column.astype(np.int64) for column in raw.reshape(-1, 5).T)
    for name, values in (("x", x), ("y", y)):
        check_addresses(f"nmnist: {path}", name, values, side)
    times = (high & 0x7F) << 16 | middle << 8 | low
    return Recording(times, ((high >> 7) * side + y) * side + x, label)


def read_list(path: Path) -> dict[Path, int]:
    """Read a list of lines ``number class``; return recordings ``number.bs2`` with classes. # begins a comment.

    Raises:
        ValueError: another line, or no line.
    """
    found = {}
    for line in path.read_text().splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not all(word.isdecimal() for word in words):
            raise ValueError(f"nmnist: {path} must hold lines 'number class', got {line!r}")
        found[path.with_name(f"{words[0]}.bs2")] = int(words[1])
    if not found:
        raise ValueError(f"nmnist: {path} must name recordings, it is empty")
    return found


def read_aedat3(path: Path, side: int) -> tuple[Ints, Ints]:
    """Read times in microseconds and addresses of the polarity events of an AEDAT 3.1 file; skip other events.

    Raises:
        ValueError: another version, a packet that is cut off, or pixels outside of the sensor.
    """
    raw = path.read_bytes()
    if not raw.startswith(b"#!AER-DAT3.1"):
        raise ValueError(f"aedat3: {path} must begin with #!AER-DAT3.1, got {raw[:16]!r}")
    position = 0
    while raw[position : position + 1] == b"#":
        end = raw.find(b"\n", position)
        line, position = raw[position:end], end + 1
        if end < 0:
            raise ValueError(f"aedat3: {path} ends within its header")
        if line.startswith(b"#!END-HEADER"):
            break
    times, addresses = [], []
    while position < len(raw):
        if len(raw) - position < 28:
            raise ValueError(f"aedat3: {path} ends within the header of a packet")
        kind = int.from_bytes(raw[position : position + 2], "little")
        size, _, overflow, _, count, _ = np.frombuffer(raw, "<i4", 6, position + 4).tolist()
        position += 28
        if size <= 0 or count < 0 or position + size * count > len(raw):
            raise ValueError(f"aedat3: {path} ends within a packet of {count} events of {size} bytes")
        if kind == 1:
            if size != 8:
                raise ValueError(f"aedat3: {path}: a polarity event must have 8 bytes, got {size}")
            data, stamp = np.frombuffer(raw, "<u4", 2 * count, position).astype(np.int64).reshape(-1, 2).T
            valid = (data & 1).astype(bool)
            x, y = data >> 17 & 0x7FFF, data >> 2 & 0x7FFF
            for name, values in (("x", x), ("y", y)):
                check_addresses(f"aedat3: {path}", name, values[valid], side)
            times.append((stamp + (overflow << 31))[valid])
            addresses.append((((data >> 1 & 1) * side + y) * side + x)[valid])
        position += size * count
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *times]), np.concatenate([empty, *addresses])


def read_gestures(recording: Path, side: int) -> Iterator[Recording]:
    """Yield the gestures of an AEDAT recording, cut by ``NAME_labels.csv`` next to it: class from 1, start, end in us.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a table of another kind, classes that do not exist, or a damaged recording.
    """
    table = recording.with_name(f"{recording.stem}_labels.csv")
    times, addresses = read_aedat3(recording, side)
    wanted = "must have the columns class, startTime_usec and endTime_usec of integers"
    with table.open(newline="") as stream:
        rows = csv.DictReader(stream)
        if not {*COLUMNS} <= {*(rows.fieldnames or ())}:
            raise ValueError(f"dvs128_gesture: {table} {wanted}, got {', '.join(rows.fieldnames or ()) or 'none'}")
        for row in rows:
            try:
                label, start, end = (int(row[n]) for n in COLUMNS)
            except (TypeError, ValueError) as error:
                raise ValueError(f"dvs128_gesture: {table} {wanted}, got {row}") from error
            check_addresses(f"dvs128_gesture: {table}", "class", np.array(label), GESTURES, 1)
            inside = (times >= start) & (times < end)
            yield Recording(times[inside] - start, addresses[inside], label - 1)


def check_addresses(where: str, name: str, values: npt.NDArray[Any], count: int, first: int = 0) -> None:
    """Raise ValueError unless all values are integers in [first, first + count)."""
    last = first + count - 1
    if values.size and not bool(np.all((values >= first) & (values <= last))):
        raise ValueError(
            f"{where}: {name} must lie in [{first}, {last}], got values from {values.min()} to {values.max()}"
        )
    if not np.array_equal(values, np.floor(values)):
        raise ValueError(f"{where}: {name} must be integers, got {values[values != np.floor(values)].flat[0]}")
