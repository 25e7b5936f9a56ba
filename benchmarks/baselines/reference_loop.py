"""Plain PyTorch: snnfast's own reference, the loop over time as the equations say it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

NOTE = ""


def lif() -> Callable[[Tensor], Tensor]:
    import snnfast

    return lambda x: snnfast.reference.lif(x, tau=2.0, surrogate="atan", return_v=False)[0]
