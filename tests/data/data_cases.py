"""Small data sets on disk, and checksums, for the tests of ``snnfast.data``."""

import hashlib

import numpy as np
import pytest
from mnist import lay_mnist


def checksum(tensor):
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]


@pytest.fixture
def mnist_root(tmp_path):
    random = np.random.default_rng(0)
    for part, n in (("train", 36), ("t10k", 6)):
        images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        lay_mnist(tmp_path, **{part: (images, np.arange(n, dtype=np.uint8) % 10)})
    return tmp_path
