"""Samples as rows of features: the split of the data set, folds, or the patterns of XOR."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast_zoo import data

from . import images
from .place import Data
from .score import Part
from .settings import FoldedSettings

CLASSES = {"xor": 2, "iris": 3, "cancer": 2, "yin-yang": 3, "digits": 10, "mnist": 10}
IMAGES = ("digits", "mnist")


def classes(dataset: str, data: Data) -> int:
    """Return the number of classes of a data set, also of a user's data."""
    return CLASSES.get(dataset) or data.classes


def load(settings: FoldedSettings, root: str | Path | None = None, *, download: bool = False) -> Data:
    """Return the parts of a run: features ``[N, F]`` with the values of the data set, and labels ``[N]``.

    With ``settings.folds`` and ``settings.validate``, the held-out part is taken from the training folds, and the test
    fold is unused. XOR is four patterns of 0 and 1, in every part. A user's images are flattened to their pixels.

    Args:
        settings: the data set, and the held-out part.
        root: folder of a set of torchvision in its layout; the others need none.
        download: let torchvision download it into ``root``.

    Raises:
        ValueError, FileNotFoundError, ImportError: a set of torchvision without ``root``, not there, or without
            torchvision; a user's images that :func:`snnfast_zoo.data.own.own_images` refuses.
    """
    if settings.dataset == "xor":
        patterns = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        dataset = patterns, torch.tensor([0, 1, 1, 0])
        return Data(dataset, dataset, raw=(2,))

    raw: list[int] = []

    def named(split: str) -> Part:
        if settings.dataset not in CLASSES:
            if split == "all":
                splits = zip(named("train+val"), named("test"))
                dataset, labels = (torch.cat(parts) for parts in splits)
                return dataset, labels
            pixels, labels = images.part(settings.dataset, split, root, download, unit=True)
            raw[:] = pixels.shape[1:]
            return pixels.flatten(1), labels
        part = data.load(settings.dataset, root, split=split, download=download)
        values, labels = data.as_tensors(part)
        raw[:] = values.shape[1:]
        return values.flatten(1), labels

    if settings.folds is None:
        train, held_out = map(named, settings.splits)
        return Data(train, held_out, settings.held_out, tuple(raw))
    train, held_out = folded(settings, settings.folds, named("all"))
    return Data(train, held_out, settings.held_out, tuple(raw))


def folded(settings: FoldedSettings, folds: int, dataset: Part) -> tuple[Part, Part]:
    """Split the samples into ``folds`` folds; return the parts to train on and to score, see :func:`load`."""
    values, labels = dataset
    fold = data.stratified_folds(labels, folds, seed=settings.split_seed)
    training = fold != settings.fold
    held_out = values[~training], labels[~training]
    values, labels = values[training], labels[training]
    if settings.validate:
        inner = data.stratified_folds(labels, 5, seed=settings.split_seed) == 0
        held_out = values[inner], labels[inner]
        values, labels = values[~inner], labels[~inner]
    return (values, labels), held_out


def moved(x: Tensor, shift: int, *, empty: float = 0.0) -> Tensor:
    """Move square images ``[B, H * H]`` by up to ``shift`` pixels in both directions, at random.

    Shifts are drawn on the CPU, so that every device sees the same images.

    Args:
        x: the images.
        shift: pixels.
        empty: value of the pixels that enter at the border.
    """
    start = torch.randint(2 * shift + 1, (2, len(x)))
    side = math.isqrt(x.shape[1])
    bordered = F.pad(x.view(-1, side, side), (shift,) * 4, value=empty).flatten(1)
    row, column = (s[:, None] + torch.arange(side) for s in start)
    index = row[:, :, None] * (side + 2 * shift) + column[:, None]
    return bordered.gather(1, index.flatten(1).to(x.device))
