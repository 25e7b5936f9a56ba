"""Train on data of your own: arrays in a file, and frames of events from a function.

    python examples/own_data.py --epochs 5

Writes ``shapes.npz`` to the current folder. The command does the same for the file:
``snnfast train stbp --dataset shapes.npz``.
"""

import argparse
import sys

import numpy as np

from snnfast.papers import procedures as procedure


def drawn(count):
    """Images ``[count, 3, 16, 12]`` of a bar, a cross or noise, bytes, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = rng.integers(0, 100, (count, 3, 16, 12), dtype=np.uint8)
    images[labels < 2, :, 7:9] = 220
    images[labels == 1, :, :, 5:7] = 220
    return images, labels


def events():
    """Frames of events ``[N, T, C, H, W]`` of a bar that moves right or down, to train and to test on."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 2
    frames = (rng.random((240, 8, 2, 10, 10)) < 0.05).astype(np.float32)
    for t in range(8):
        frames[labels == 0, t, :, :, t] += 1
        frames[labels == 1, t, :, t] += 1
    return (frames[:200], labels[:200]), (frames[200:], labels[200:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    images, labels = drawn(90)
    np.savez("shapes.npz", images=images, labels=labels)  # a sixth of each class is held out
    # What runs as a program has another name.
    sys.modules.setdefault("own_data", sys.modules[__name__])
    for dataset in ("shapes.npz", "own_data:events"):
        result = procedure.stbp(dataset, hidden=(100,), batch_norm=True, epochs=options.epochs)
        print(f"{dataset}: {100 * result.accuracy:.1f} % of what is held out")


if __name__ == "__main__":
    main()
