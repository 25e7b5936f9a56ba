"""Event recordings as counts per time step: SHD and SSC, N-MNIST, DVS128 gestures, events in arrays."""

from __future__ import annotations

import glob
import hashlib
import io
import json
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snnfast import check
from snnfast.files.atomic import replacing

from .event_files import Recording, check_addresses, read_gestures, read_heidelberg, read_list, read_nmnist

__all__ = ["EventFrames", "dvs128_gesture", "frames", "heidelberg", "nmnist"]

VERSION = 3  # version of the cache; increase it when frames or files of the cache change
LEAST_DT = 1e-6  # ms; recordings count microseconds
UNITS, NMNIST_SIDE, GESTURE_SIDE = 700, 34, 128
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class EventFrames(NamedTuple):
    """Samples of events, counted per time step.

    Attributes:
        frames: ``[N, T, ...]``, uint8 counts up to 255, or bool. With a cache they stay in its file, which is mapped
            into memory.
        labels: int64 ``[N]``.
        lengths: int64 ``[N]``, steps of each sample up to its last event, at least 1; for ``lengths=`` of readouts and
            losses.
    """

    frames: Tensor
    labels: Tensor
    lengths: Tensor

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return samples for layers: frames ``[T, B, ...]``, uint8 or bool, labels and lengths ``[B]``.

        Only the batch is copied. Networks take ``frames.float()``. ``DataLoader(range(len(labels)),
        collate_fn=batch)`` yields batches.

        Raises:
            TypeError: for indices that are not integers ``[B]``, such as a mask.
        """
        try:
            chosen = torch.as_tensor(indices)
        except (RuntimeError, TypeError, ValueError):
            raise TypeError(f"EventFrames: indices must be integers [B], got {check.shown(indices)}") from None
        if chosen.shape == (0,):
            chosen = chosen.long()  # PyTorch converts an empty list to floats
        if chosen.dim() != 1 or chosen.dtype not in INTEGERS:
            raise TypeError(f"EventFrames: indices must be integers [B], got {list(chosen.shape)} of {chosen.dtype}")
        chosen = chosen.long()
        return self.frames[chosen].transpose(0, 1), self.labels[chosen], self.lengths[chosen]

    def __repr__(self) -> str:
        return f"EventFrames({len(self.labels)} samples, frames {list(self.frames.shape)} of {self.frames.dtype})"


def heidelberg(
    path: str | Path,
    *,
    dt: float = 10.0,
    num_steps: int = 100,
    pool: int = 1,
    dtype: torch.dtype = torch.uint8,
    cache: str | Path | None = None,
) -> EventFrames:
    """Read spoken digits or commands, coded by an artificial cochlea: SHD or SSC, such as ``shd_train.h5``.

    Args:
        path: HDF5 file with ``spikes/times`` (s), ``spikes/units`` (0 to 699) and ``labels``; needs h5py.
        dt: length of a step in milliseconds.
        num_steps: number of steps; later events are dropped.
        pool: number of neighbouring units that are counted together; divides 700.
        dtype: torch.uint8 for counts, torch.bool for the presence of events.
        cache: folder that stores the frames between programs, with a checksum for each sample, which is checked when
            they are opened (at about 2 GB/s, once the file is in memory). They are computed anew for other
            settings, if a file of the data set has changed, or if files in the cache are damaged. None: nothing is
            written.

    Returns:
        Frames ``[N, num_steps, 700 / pool]``.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, or a file of another kind.
        FileNotFoundError: there is no such file. ImportError: without h5py. MemoryError: for more steps than fit.
        OSError: the cache cannot be written.

    Source: Cramer et al., The Heidelberg spiking data sets, IEEE TNNLS (2020).
    """
    pool = check.integer("heidelberg", "pool", pool)
    if UNITS % pool:
        raise ValueError(f"heidelberg: pool must divide {UNITS}, got {pool}")
    file = _file("heidelberg", Path(path).expanduser())

    def recordings() -> Iterable[Recording]:
        return (r._replace(addresses=r.addresses // pool) for r in read_heidelberg(file, UNITS))

    shape = (UNITS // pool,)
    return _frames("heidelberg", file, [file], recordings, shape, dt, num_steps, dtype, cache, {"pool": pool})


def nmnist(
    root: str | Path,
    train: bool = True,
    *,
    dt: float = 10.0,
    num_steps: int = 30,
    dtype: torch.dtype = torch.uint8,
    cache: str | Path | None = None,
) -> EventFrames:
    """Read N-MNIST, digits of MNIST before a moving event camera, ``root/Train/0/*.bin`` and ``root/Test/0/*.bin``.

    Or read a list of recordings, as in SLAYER's part of N-MNIST: a file of lines ``number class``, with ``number.bs2``
    next to it.

    Args:
        root: folder of both parts, or the file of a list.
        train: the part; ignored for a list.
        dt: length of a step in milliseconds; a recording is about 300 ms long.
        num_steps: number of steps; later events are dropped.
        dtype: as in :func:`heidelberg`.
        cache: as in :func:`heidelberg`.

    Returns:
        Frames ``[N, num_steps, 2, 34, 34]``; polarity 1 is "brighter".

    Raises:
        TypeError, ValueError, FileNotFoundError: as in :func:`heidelberg`.

    Source: Orchard et al., Converting static image datasets to spiking neuromorphic datasets using saccades (2015).
    """
    train, source = check.flag("nmnist", "train", train), Path(root).expanduser()
    if source.is_file():
        found = read_list(source)
        sources = [source, *found]
    else:
        source /= "Train" if train else "Test"
        found = {file: int(file.parent.name) for file in sorted(source.glob("[0-9]/*.bin"))}
        sources = list(found)
        if not found:
            raise FileNotFoundError(f"nmnist: {source} must hold recordings 0/*.bin to 9/*.bin")

    def recordings() -> Iterable[Recording]:
        return (read_nmnist(f, c, NMNIST_SIDE) for f, c in found.items())

    shape = (2, NMNIST_SIDE, NMNIST_SIDE)
    sources = [_file("nmnist", file) for file in sources]
    return _frames("nmnist", source, sources, recordings, shape, dt, num_steps, dtype, cache, {})


def dvs128_gesture(
    root: str | Path,
    train: bool = True,
    *,
    dt: float = 25.0,
    num_steps: int = 60,
    pool: int = 4,
    dtype: torch.dtype = torch.uint8,
    cache: str | Path | None = None,
) -> EventFrames:
    """Read DVS128 Gesture, eleven hand gestures, from AEDAT 3.1 files listed in ``root/trials_to_train.txt`` (or test).

    Args:
        root: folder of the recordings and their ``NAME_labels.csv``.
        train: the part.
        dt: length of a step in milliseconds; a gesture is about 6 s long.
        num_steps: number of steps; later events are dropped.
        pool: side of the squares of pixels that are counted together; divides 128.
        dtype: as in :func:`heidelberg`.
        cache: as in :func:`heidelberg`.

    Returns:
        Frames ``[N, num_steps, 2, 128 / pool, 128 / pool]``, labels 0 to 10.

    Raises:
        TypeError, ValueError, FileNotFoundError: as in :func:`heidelberg`.

    Source: Amir et al., A low power, fully event-based gesture recognition system, CVPR 2017.
    """
    pool = check.integer("dvs128_gesture", "pool", pool)
    if GESTURE_SIDE % pool:
        raise ValueError(f"dvs128_gesture: pool must divide {GESTURE_SIDE}, got {pool}")
    folder, side = Path(root).expanduser(), GESTURE_SIDE // pool
    part = "train" if check.flag("dvs128_gesture", "train", train) else "test"
    trials = _file("dvs128_gesture", folder / f"trials_to_{part}.txt")
    names = [line.strip() for line in trials.read_text().splitlines() if line.strip()]
    if not names:
        raise ValueError(f"dvs128_gesture: {trials} must name recordings, it is empty")
    files = [_file("dvs128_gesture", folder / name) for name in names]
    tables = [_file("dvs128_gesture", f.with_name(f"{f.stem}_labels.csv")) for f in files]

    def recordings() -> Iterable[Recording]:
        for file in files:
            for r in read_gestures(file, GESTURE_SIDE):
                rest, x = np.divmod(r.addresses, GESTURE_SIDE)
                polarity, y = np.divmod(rest, GESTURE_SIDE)
                yield r._replace(addresses=(polarity * side + y // pool) * side + x // pool)

    shape, settings = (2, side, side), {"pool": pool}
    sources = [trials, *files, *tables]
    return _frames("dvs128_gesture", trials, sources, recordings, shape, dt, num_steps, dtype, cache, settings)


@check.keywords
def frames(
    t: npt.ArrayLike,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    p: npt.ArrayLike | None = None,
    *,
    size: tuple[int, int],
    dt: float,
    num_steps: int | None = None,
) -> Tensor:
    """Count the events of a recording in arrays, such as tonic's ``events["t"]``, per time step, polarity and pixel.

    Frames of several recordings, with the same ``num_steps``, are stacked: ``torch.stack([...])`` ``[N, T, C, H, W]``.

    Args:
        t: times of the events, in any unit and order; the first step begins with the earliest event.
        x: columns, integers from 0 to W - 1.
        y: rows, integers from 0 to H - 1.
        p: polarities, 0 or 1, False or True, or -1 or 1; None: one channel for all events.
        size: (H, W) of the sensor.
        dt: length of a step, in the unit of ``t``.
        num_steps: number of steps; later events are dropped. None: up to the last event.

    Returns:
        uint8 ``[num_steps, 2, H, W]``, counts up to 255, polarity 1 last; ``[num_steps, 1, H, W]`` without ``p``.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, arrays of different length, no events without
            ``num_steps``. MemoryError: for more steps than fit.

    Example:
        >>> frames = data.frames(events["t"], events["x"], events["y"], events["p"], size=(34, 34), dt=10_000)
    """
    height, width = check.sizes("frames", "size", size)
    dt = check.positive("frames", "dt", dt)
    times, columns, rows = (_events(name, values) for name, values in (("t", t), ("x", x), ("y", y)))
    polarity = np.zeros(len(times)) if p is None else np.maximum(_events("p", p), 0)
    for name, values, count in (("x", columns, width), ("y", rows, height), ("p", polarity, 2)):
        if len(values) != len(times):
            raise ValueError(f"frames: {name} must hold as many events as t, {len(times)}, got {len(values)}")
        check_addresses("frames", name, values, count)
    times = times - times.min(initial=math.inf)
    if num_steps is None and not len(times):
        raise ValueError("frames: give num_steps, there are no events")
    num_steps = (
        math.floor(times.max() / dt) + 1 if num_steps is None else check.integer("frames", "num_steps", num_steps)
    )
    addresses = ((polarity * height + rows) * width + columns).astype(np.int64)
    shape = (num_steps, 1 if p is None else 2, height, width)
    return _counted("frames", Recording(times, addresses, 0), shape, dt / 1000)


def recording(path: Path) -> Tensor:
    """Return the frames ``[1, 30, 2, 34, 34]`` of a recording of N-MNIST, as :func:`nmnist` counts them."""
    return _counted("nmnist", read_nmnist(path, 0, NMNIST_SIDE), (30, 2, NMNIST_SIDE, NMNIST_SIDE), 10.0)[None]


def _events(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise TypeError(f"frames: {name} must be numbers of shape [events], got {array.dtype} {list(array.shape)}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"frames: {name} must be finite, got NaN or infinity")
    return array


def _file(function: str, path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{function}: there is no file {path}")
    return path


def _frames(
    name: str,
    part: Path,
    sources: Sequence[Path],
    recordings: Callable[[], Iterable[Recording]],
    shape: tuple[int, ...],
    dt: float,
    num_steps: int,
    dtype: torch.dtype,
    cache: str | Path | None,
    more_settings: dict[str, Any],
) -> EventFrames:
    """Return frames of recordings, from the cache if it holds those of the same settings and files.

    The cache holds one set of frames per ``part``, the file or folder of the recordings.
    """
    dt, num_steps = check.positive(name, "dt", dt), check.integer(name, "num_steps", num_steps)
    if dt < LEAST_DT:
        raise ValueError(f"{name}: dt must be at least {LEAST_DT:g} ms, got {dt:g}")
    if dtype not in (torch.uint8, torch.bool):
        raise TypeError(f"{name}: dtype must be torch.uint8 or torch.bool, got {dtype}")
    kind: npt.DTypeLike = np.uint8 if dtype == torch.uint8 else np.bool_
    size = (num_steps, *shape)
    settings = {
        "version": VERSION,
        "name": name,
        "dt": dt,
        "num_steps": num_steps,
        "shape": list(shape),
        "dtype": str(dtype),
        **more_settings,
        "sources": [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in sources],
    }
    if cache is None:
        room = io.BytesIO()
        table = _count(name, recordings(), size, dt, kind, room)
        frames = np.frombuffer(room.getbuffer(), kind)
        return _tensors(frames.reshape(len(table[0]), *size), table)
    folder = Path(cache).expanduser()
    stem = f"{name}-{part.stem}-{zlib.crc32(str(part.resolve()).encode()):08x}"
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    counted, tabled = (folder / f"{stem}-{digest}{end}" for end in (".bin", ".npy"))
    try:
        return _cached(counted, tabled, size, kind)
    except (OSError, ValueError, EOFError, BadZipFile):
        pass  # the cache is empty or damaged
    with replacing(counted) as new:
        with new.open("wb") as stream:
            table = _count(name, recordings(), size, dt, kind, stream)
        frames = _mapped(new, (table.shape[1], *size), kind)
    with replacing(tabled) as new, new.open("wb") as stream:
        np.save(stream, table, allow_pickle=False)
    for other in folder.glob(f"{glob.escape(stem)}-*"):  # frames of other settings or other files
        if other not in (counted, tabled):
            other.unlink(missing_ok=True)
    return _tensors(frames, table)


def _cached(counted: Path, tabled: Path, size: tuple[int, ...], kind: npt.DTypeLike) -> EventFrames:
    """Return the contents of the files of the cache; raise ValueError if they are inconsistent."""
    table = np.load(tabled, allow_pickle=False)
    if table.ndim != 2 or len(table) != 3 or table.dtype != np.int64:
        raise ValueError(f"{tabled} must hold labels, lengths and checksums")
    shape = (table.shape[1], *size)
    if counted.stat().st_size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{counted} must hold frames {list(shape)}")
    frames = _mapped(counted, shape, kind)
    for sample, (label, length, expected) in zip(frames, table.T.tolist()):
        if _checksum(sample, label, length) != expected:
            raise ValueError(f"{counted} must hold what was written, a sample has changed")
    return _tensors(frames, table)


def _checksum(frames: npt.NDArray[Any], label: int, length: int) -> int:
    """Return the checksum of a sample with its label and length."""
    return zlib.crc32(frames.data, zlib.crc32(f"{label} {length}".encode()))


def _mapped(file: Path, shape: tuple[int, ...], kind: npt.DTypeLike) -> npt.NDArray[Any]:
    # "c", copy on write: PyTorch needs writable memory, and the file must not change.
    return np.memmap(file, kind, "c", shape=shape) if shape[0] else np.zeros(shape, kind)


def _count(
    name: str, recordings: Iterable[Recording], size: tuple[int, ...], dt: float, kind: npt.DTypeLike, room: IO[bytes]
) -> npt.NDArray[np.int64]:
    """Write the frames of all recordings, a byte per cell; return labels, lengths and checksums ``[3, N]``."""
    num_steps, cells = size[0], int(np.prod(size[1:]))
    width = round(1000 * dt, 9)  # microseconds: 1000 * 16.1 is more than 16100
    rows: list[tuple[int, int, int]] = []
    for r in recordings:
        steps = np.floor(r.times / width)  # may exceed the range of integers
        inside = steps < num_steps
        steps = steps[inside].astype(np.int64)
        cell_indices = steps * cells + r.addresses[inside]
        try:
            counts = np.bincount(cell_indices, minlength=num_steps * cells)
            frames = np.minimum(counts, 255).astype(kind)
            room.write(frames.data)
        except (MemoryError, OverflowError, ValueError):  # the type depends on the size
            raise MemoryError(
                f"{name}: num_steps={num_steps} steps of {cells} cells, {9 * num_steps * cells / 1e9:.3g} GB while a "
                f"recording is counted and {num_steps * cells / 1e9:.3g} GB kept of each, do not fit into memory; give "
                "fewer steps, or cache="
            ) from None
        length = int(steps.max()) + 1 if steps.size else 1
        rows.append((r.label, length, _checksum(frames, r.label, length)))
    return np.array(rows, np.int64).reshape(-1, 3).T


def _counted(name: str, events: Recording, size: tuple[int, ...], dt: float) -> Tensor:
    """Return the frames of one recording, uint8 of shape ``size``; times are in microseconds, ``dt`` in ms."""
    room = io.BytesIO()
    _count(name, [events], size, dt, np.uint8, room)
    return torch.from_numpy(np.frombuffer(room.getbuffer(), np.uint8).reshape(size))


def _tensors(frames: npt.NDArray[Any], table: npt.NDArray[np.int64]) -> EventFrames:
    labels, lengths, _ = torch.from_numpy(np.ascontiguousarray(table))
    return EventFrames(torch.from_numpy(frames), labels, lengths)
