"""Points of a yin-yang symbol, generated: a small task that a linear classifier cannot solve."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from snnfast import check

__all__ = ["YIN_YANG_CLASSES", "yin_yang"]

YIN_YANG_CLASSES = ("yin", "yang", "dot")
_SPLITS = {"train": (0, 4000), "val": (4000, 5000), "test": (5000, 6000)}
_SPLITS |= {"train+val": (0, 5000), "all": (0, 6000)}


def yin_yang(split: str = "train", *, seed: int = 0) -> TensorDataset:
    """6,000 points of the yin-yang symbol, labelled by the part of the symbol.

    The symbol is a disk of diameter 1 in the unit square, with dots of radius 1/10. The class of a point is drawn
    first, so that the three classes are about equally frequent.

    Args:
        split: "train" (4,000 points), "val" (1,000), "train+val" (5,000, as many as in the paper), "test" (1,000) or
            "all".
        seed: Seed of the points; other seeds give other points of the same symbol.

    Returns:
        Features float32 [N, 4]: x, y, 1 - x, 1 - y, in [0, 1]; and labels int64 [N] into ``YIN_YANG_CLASSES``.

    Raises:
        ValueError: Unknown split, or a negative seed.

    Source: L. Kriener, J. Goeltz, M. A. Petrovici, The Yin-Yang dataset, NICE (2022).
    """
    check.choice("yin_yang", "split", split, tuple(_SPLITS))
    generator = torch.Generator().manual_seed(check.integer("yin_yang", "seed", seed, 0))
    count = _SPLITS["all"][1]
    labels = torch.randint(3, (count,), generator=generator)
    # Uniform points of the square, 40 per sample; each class takes as many as it needs.
    points = torch.rand(40 * count, 2, generator=generator, dtype=torch.float64)
    found = parts(points)
    index = torch.empty_like(labels)
    for k in range(3):
        wanted = (labels == k).nonzero()[:, 0]
        index[wanted] = (found == k).nonzero()[: len(wanted), 0]
    first, last = _SPLITS[split]
    chosen = points[index[first:last]].float()
    return TensorDataset(torch.cat((chosen, 1 - chosen), 1), labels[first:last])


def parts(points: Tensor) -> Tensor:
    """Return the part of the symbol of points ``[N, 2]``, int64 ``[N]`` into ``YIN_YANG_CLASSES``; -1 outside."""
    x, y = (points - 0.5).unbind(1)
    left, right = torch.hypot(x + 0.25, y), torch.hypot(x - 0.25, y)
    # Yin is the upper half without the head of yang on the right, plus its head on the left; the eyes are dots.
    yang = (left <= 0.25) | ((y > 0) & (right > 0.25))
    label = torch.where((left < 0.1) | (right < 0.1), 2, yang.long())
    return label.masked_fill(torch.hypot(x, y) > 0.5, -1)
