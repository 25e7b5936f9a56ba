"""The digits in the package, made as large as MNIST's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def enlarged(side: int) -> tuple[Tensor, Tensor]:
    """Images ``[N, side * side]`` in [0, 1], flattened, with a border as in MNIST, and labels."""
    from snnfast import data

    images, labels = data.as_tensors(data.digits())
    inner = side * 5 // 7  # the rest is border
    before = (side - inner) // 2
    after = side - inner - before
    large = functional.interpolate(images, (inner, inner), mode="bilinear", antialias=True)
    return functional.pad(large.clamp(0, 1), (before, after, before, after)).flatten(1), labels
