"""Files of MNIST in torchvision's layout, for tests that read a data set from disk."""

import struct

import numpy as np


def lay_mnist(root, **parts):
    """Write ``train=(images, labels)`` and ``t10k=(images, labels)``, uint8; return the folder of the files."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in parts.items():
        for name, array in {"images-idx3": images, "labels-idx1": labels}.items():
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (raw / f"{part}-{name}-ubyte").write_bytes(header + np.asarray(array).tobytes())
    return raw


def rows_of_classes(n):
    """Return images and labels; each class lights its own rows."""
    labels = np.arange(n, dtype=np.uint8) % 10
    images = np.zeros((n, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels.tolist()):
        image[2 * label + 2 : 2 * label + 5, 4:24] = 200
    return images, labels
