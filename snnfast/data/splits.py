"""Training, validation and test parts of a data set, the same on every machine."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

BUNDLED_SPLITS = ("train", "val", "train+val", "test", "all")
TORCHVISION_SPLITS = ("train", "val", "train+val", "test")


def check_split(name: str, split: object, allowed: tuple[str, ...]) -> str:
    """Return ``split`` when it is one of ``allowed``; the error begins with ``name``."""
    if not isinstance(split, str) or split not in allowed:
        raise ValueError(f"{name}: split must be one of {', '.join(allowed)}, got {split!r}")
    return split


def check_fraction(name: str, argument: str, value: object) -> float:
    """Return ``value`` as a float when it lies in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: {argument} must be a number, got {type(value).__name__}")
    fraction = float(value)
    if not 0 <= fraction < 1:
        raise ValueError(f"{name}: {argument} must lie in [0, 1), got {fraction}")
    return fraction


def permutation(name: str, n: int, seed: object) -> npt.NDArray[np.int64]:
    """A random order of ``n`` items, fixed by ``seed``.

    NumPy promises the raw stream of PCG64 for all versions, but not ``Generator.permutation``: so
    the order is the rank of raw numbers.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"{name}: seed must be an integer, got {type(seed).__name__}")
    if seed < 0:
        raise ValueError(f"{name}: seed must not be negative, got {seed}")
    raw = np.random.PCG64(int(seed)).random_raw(n)
    return np.argsort(raw, kind="stable").astype(np.int64)


def stratified(
    name: str,
    labels: npt.NDArray[np.uint8],
    split: str,
    *,
    seed: int,
    test_fraction: float,
    val_fraction: float,
) -> npt.NDArray[np.int64]:
    """Indices of one split, in random order; every class has its share in each split.

    The test part is drawn first and does not depend on ``val_fraction``; the validation part is
    drawn from what remains, so "train", "val" and "test" never share an item and "train+val" is the
    rest of "test".

    Args:
        name: Function named in errors.
        labels: Class of each item, [N].
        split: One of ``BUNDLED_SPLITS``; "all" keeps the original order.
        seed: Seed of the random order.
        test_fraction: Share of all items that is test, in [0, 1).
        val_fraction: Share of the remaining items that is validation, in [0, 1).
    """
    check_split(name, split, BUNDLED_SPLITS)
    test_fraction = check_fraction(name, "test_fraction", test_fraction)
    val_fraction = check_fraction(name, "val_fraction", val_fraction)
    order = permutation(name, len(labels), seed)
    if split == "all":
        return np.arange(len(labels))
    part = np.empty(len(labels), dtype="<U5")
    for label in np.unique(labels):
        members = order[labels[order] == label]
        n_test = _share(test_fraction, len(members))
        n_val = _share(val_fraction, len(members) - n_test)
        part[members[:n_test]] = "test"
        part[members[n_test : n_test + n_val]] = "val"
        part[members[n_test + n_val :]] = "train"
    indices = order[np.isin(part[order], split.split("+"))]
    if len(indices) == 0:
        raise ValueError(
            f"{name}: split {split!r} holds nothing with {test_fraction=} and {val_fraction=}"
        )
    return indices


def _share(fraction: float, n: int) -> int:
    # round() goes to even, which would make neighbouring classes uneven.
    return int(fraction * n + 0.5)
