"""Batches of data loaders: images, or images and labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from tqdm import tqdm

from snnfast import check

Loader = Iterable[Any]


def each_batch(loader: Loader, op: str, *, progress: bool | None, what: str | None = None) -> Iterable[Any]:
    """The batches of ``loader`` under a progress bar named ``what``, or ``op``, with which errors begin."""
    if not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise TypeError(f"{op}: the loader must give batches of images, got {type(loader).__name__}")
    disable = None if progress is None else not progress
    bar: Iterable[Any] = tqdm(loader, desc=what or op, unit="batch", disable=disable, leave=False)
    return bar


def images_and_labels(batch: Any) -> tuple[Any, Any]:
    """The two parts of a batch, whatever follows them; None for labels that it does not have."""
    if not isinstance(batch, (tuple, list)):
        return batch, None
    return (*batch[:2], None, None)[:2]


def checked_labels(op: str, labels: object, scores: Tensor) -> Tensor:
    """Labels as int64, once they are a class for each row of ``scores``, ``[B, classes]``."""
    check.shape(op, "labels", labels, (len(scores),))
    classes = check.labels(op, "labels", labels)
    check.in_range(op, "labels", classes, 0, scores.shape[1] - 1)
    return classes
