"""Batches of data loaders: images, or images and labels."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from torch import Tensor

from snnfast import check

Loader = Iterable[Any]
T = TypeVar("T")


def each_batch(loader: Loader, op: str, *, progress: bool | None, title: str | None = None) -> Iterable[Any]:
    """Return the batches of ``loader`` with a progress bar named ``title`` or ``op``; errors begin with ``op``."""
    if isinstance(loader, Tensor):  # its rows would be taken for batches
        raise TypeError(
            f"{op}: the loader must give batches of images, got a tensor {list(loader.shape)}; pass [images]"
        )
    if not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise TypeError(f"{op}: the loader must give batches of images, got {type(loader).__name__}")
    return with_progress(loader, title or op, "batch", progress)


def with_progress(items: Iterable[T], title: str, unit: str, progress: bool | None) -> Iterable[T]:
    """Return ``items`` behind a progress bar; ``progress=None`` shows it only if standard error is a terminal."""
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return items
    from tqdm import tqdm  # imported here: the kernels work without it

    bar: Iterable[T] = tqdm(items, desc=title, unit=unit, leave=False)
    return bar


def images_and_labels(batch: Any) -> tuple[Any, Any]:
    """Return the first two parts of a batch; None for missing labels."""
    if not isinstance(batch, (tuple, list)):
        return batch, None
    return (*batch[:2], None, None)[:2]


def checked_labels(op: str, labels: object, scores: Tensor) -> Tensor:
    """Return labels as int64; check that there is a class for each row of ``scores`` ``[B, classes]``."""
    check.shape(op, "labels", labels, (len(scores),))
    classes = check.labels(op, "labels", labels)
    check.in_range(op, "labels", classes, 0, scores.shape[1] - 1)
    return classes
