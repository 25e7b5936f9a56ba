"""Iris with n3ml's interface."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import check
from snnfast_zoo.data.bundled import iris


class IRISDataLoader:
    """Iris in a training and a test part, with the methods of n3ml.

    n3ml draws a new split at every ``run()``, which mixes both parts over the epochs; here the split
    is drawn once, stratified, and fixed.

    Args:
        ratio: share of the training part, in (0, 1).
        seed: seed of the split.

    Raises:
        TypeError, ValueError: for a ratio or a seed of wrong type or range.

    Example:
        >>> loader = snnfast.data.IRISDataLoader(ratio=0.8)
        >>> loader.run()["train.data"].shape
        torch.Size([120, 4])
    """

    def __init__(self, ratio: float = 0.8, *, seed: int = 0) -> None:
        self.ratio = check.number("IRISDataLoader", "ratio", ratio)
        if not 0 < self.ratio < 1:
            raise ValueError(f"IRISDataLoader: ratio must lie in (0, 1), got {self.ratio:g}")
        self.seed = seed
        self._parts = {
            part: iris(part, seed=seed, test_fraction=1 - self.ratio, val_fraction=0.0).tensors
            for part in ("train", "test")
        }

    def run(self) -> dict[str, Tensor]:
        """Return the flowers of both parts, the same at every call.

        Returns:
            ``"train.data"`` float64 ``[N, 4]`` in centimetres, ``"train.target"`` int64 ``[N]``, and the same for
            ``"test"``.
        """
        return {
            f"{part}.{name}": values.to(dtype, copy=True)
            for part, tensors in self._parts.items()
            for name, values, dtype in zip(("data", "target"), tensors, (torch.float64, torch.int64))
        }

    def summarize(self) -> dict[str, Tensor]:
        """Return ``"min"`` and ``"max"`` of each measurement over the training part, float64 ``[4]``."""
        data = self._parts["train"][0].to(torch.float64)
        return {"min": data.amin(0), "max": data.amax(0)}
