"""Checks of files of MNIST and similar sets, because torchvision reads truncated or mixed-up files without error."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_HEADER = {"images-idx3-ubyte": (0x803, 4), "labels-idx1-ubyte": (0x801, 2)}
CLASSES = 10


def check_files(raw: Path, train: bool) -> None:
    """Check the image and label files of one part in ``raw``; torchvision reports missing files.

    Raises:
        ValueError: a file that is empty, compressed, of another kind or of another length than its header says, a label
            above 9, or different numbers of images and labels; the message names the file.
    """
    part = "train" if train else "t10k"
    counts = {}
    for name in _HEADER:
        path = raw / f"{part}-{name}"
        if not path.is_file():
            if path.with_name(f"{path.name}.gz").is_file():
                raise ValueError(f"{path} must be unpacked, got {path.name}.gz: run gunzip on it")
            return
        counts[path] = _count(path, *_HEADER[name])
    (images, n_images), (labels, n_labels) = counts.items()
    if n_images != n_labels:
        raise ValueError(
            f"{images} and {labels.name} must hold equally many images and labels, got {n_images} and {n_labels}"
        )


def _count(path: Path, magic: int, words: int) -> int:
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty")
    with path.open("rb") as stream:
        start = stream.read(4 * words)
        found = int.from_bytes(start[:4], "big")
        if found != magic:
            kind = ", which is a compressed file: unpack it" if start[:2] == b"\x1f\x8b" else ""
            raise ValueError(f"{path} must begin with 0x{magic:x}, got 0x{found:x}{kind}")
        if len(start) < 4 * words:
            raise ValueError(f"{path} must begin with {4 * words} bytes of sizes, got {size}")
        header = np.frombuffer(start, dtype=">u4")
        expected = 4 * words + int(np.prod(header[1:].astype(np.int64)))
        if size != expected:
            raise ValueError(f"{path} must have {expected} bytes for {'x'.join(map(str, header[1:]))}, got {size}")
        if words == 2:
            largest = int(np.frombuffer(stream.read(), dtype=np.uint8).max(initial=0))
            if largest >= CLASSES:
                raise ValueError(f"{path} must hold labels from 0 to {CLASSES - 1}, got {largest}")
        elif tuple(header[2:]) != (28, 28):
            raise ValueError(f"{path} must hold images of 28x28, got {'x'.join(map(str, header[2:]))}")
    if header[1] == 0:
        raise ValueError(f"{path} holds no items")
    return int(header[1])
