"""The digits in the package, enlarged to the size of MNIST's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def enlarged(side: int) -> tuple[Tensor, Tensor]:
    """Return flattened images ``[N, side * side]`` in [0, 1], with a border as in MNIST, and labels."""
    from snnfast import data

    images, labels = data.as_tensors(data.digits())
    inner = side * 5 // 7  # the rest is border
    before = (side - inner) // 2
    after = side - inner - before
    large = functional.interpolate(images, (inner, inner), mode="bilinear", antialias=True)
    return functional.pad(large.clamp(0, 1), (before, after, before, after)).flatten(1), labels
