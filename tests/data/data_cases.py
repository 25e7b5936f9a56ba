"""Small data sets on disk, and checksums, for the tests of ``snnfast.data``."""

import hashlib
import struct

import numpy as np
import pytest


def checksum(tensor):
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def mnist_root(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, n in (("train", 36), ("t10k", 6)):
        images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 10)
    return tmp_path
