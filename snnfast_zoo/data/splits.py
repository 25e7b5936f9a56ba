"""Splits of a data set into training, validation and test parts, the same on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snnfast import check

BUNDLED_SPLITS = ("train", "val", "train+val", "test", "all")
TORCHVISION_SPLITS = ("train", "val", "train+val", "test")


def check_fraction(name: str, argument: str, value: object) -> float:
    """Return ``value`` as a float when it lies in [0, 1)."""
    fraction = check.number(name, argument, value)
    if not 0 <= fraction < 1:
        raise ValueError(f"{name}: {argument} must lie in [0, 1), got {fraction}")
    return fraction


def permutation(name: str, n: int, seed: object) -> npt.NDArray[np.int64]:
    """Return a random order of ``n`` items, determined by ``seed``.

    NumPy guarantees the raw stream of PCG64 for all versions, but not ``Generator.permutation``, so
    the order is the rank of raw numbers.
    """
    raw = np.random.PCG64(check.integer(name, "seed", seed, 0)).random_raw(n)
    return np.argsort(raw, kind="stable").astype(np.int64)


def stratified(
    name: str, labels: npt.NDArray[np.uint8], split: str, *, seed: int, test_fraction: float, val_fraction: float
) -> npt.NDArray[np.int64]:
    """Return the indices of one split, in random order; every class has its share in each split.

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
    check.choice(name, "split", split, BUNDLED_SPLITS)
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
        raise ValueError(f"{name}: split {split!r} holds nothing with {test_fraction=} and {val_fraction=}")
    return indices


def stratified_folds(labels: Tensor, folds: int, *, seed: int = 0) -> Tensor:
    """Return the fold of each item for cross-validation; every class is spread evenly over the folds.

    Each fold has ``1 / folds`` of the items of each class, and of all items, up to one. A seed gives the same folds on
    every machine.

    Args:
        labels: Class of each item, integers [N].
        folds: Number of folds, at least 2 and at most the size of the smallest class.
        seed: Seed of the random order.

    Returns:
        int64 [N], each in [0, folds).

    Raises:
        TypeError, ValueError: Labels of wrong type or shape, too few or too many folds, or a
            negative seed.

    Example:
        >>> fold = stratified_folds(labels, 5, seed=0)
        >>> train, test = features[fold != 2], features[fold == 2]
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        came = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"stratified_folds: labels must be a tensor of integers, got {came}")
    if labels.dim() != 1 or len(labels) == 0:
        raise ValueError(f"stratified_folds: labels must have shape [N], N at least 1, got {list(labels.shape)}")
    folds = check.integer("stratified_folds", "folds", folds, 2)
    classes = labels.cpu().numpy()
    smallest = int(np.unique(classes, return_counts=True)[1].min())
    if folds > smallest:
        raise ValueError(
            f"stratified_folds: folds must be at most {smallest}, the size of the smallest class, got {folds}"
        )
    order = permutation("stratified_folds", len(classes), seed)
    # Sorted by class, in random order within a class; folds are assigned in turn.
    by_class = order[np.argsort(classes[order], kind="stable")]
    fold = np.empty(len(classes), dtype=np.int64)
    fold[by_class] = np.arange(len(classes)) % folds
    return torch.from_numpy(fold)


def train_or_val(name: str, split: str, n: int, seed: int) -> npt.NDArray[np.int64]:
    """Return which of ``n`` training items are in "val", a random twelfth of them, or in "train", the others.

    Raises:
        ValueError: Too few items for a twelfth; the error begins with ``name``.
    """
    order, n_val = permutation(name, n, seed), round(n / 12)
    if not n_val:
        raise ValueError(f"{name}: a twelfth of the training part is for validation, which needs 7 items, got {n}")
    return order[:n_val] if split == "val" else order[n_val:]


def _share(fraction: float, n: int) -> int:
    # round() rounds halves to even, which would make neighbouring classes uneven.
    return int(fraction * n + 0.5)
