"""SpikingJelly's layers that take sequences, as torch.nn's in :class:`snnfast.nn.Time`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snnfast.ops.autograd import traced

from ..keys import keys_of
from ..time import Time

__all__ = ["MultiStep", "in_time"]


class MultiStep(Time):
    """:class:`snnfast.nn.Time` for a layer in SpikingJelly's step mode ``"m"``, with the keys of that layer.

    An input without a gradient on the CPU is compared over the steps: where it is the same at all of them, as images
    after ``repeat(T, 1, 1, 1, 1)``, the layer runs once.

    Args:
        layer: the layer, of torch.nn.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        keys_of(self, "layer")

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, B, ...]`` -> ``[T, B, ...]``."""
        return super().forward(x[:1].expand(x.shape) if _is_repeated(x) else x)

    @property
    def step_mode(self) -> str:
        """Always ``"m"``: a call takes all steps."""
        return "m"

    @step_mode.setter
    def step_mode(self, mode: str) -> None:
        if mode != "m":
            raise ValueError(
                f"{type(self.layer).__name__}: step_mode must be 'm', since its copy takes sequences, got {mode!r}"
            )


def _is_repeated(x: Tensor) -> bool:
    plain = isinstance(x, Tensor) and not traced() and x.is_cpu and not x.requires_grad
    several = plain and x.dim() > 1 and len(x) > 1 and x.stride(0) != 0
    return several and torch.equal(x[1:], x[:-1])


def in_time(net: nn.Module, *, training: bool) -> None:
    """Changes ``net``: ``layer.Conv2d`` and its like in step mode ``"m"`` and ``SeqToANNContainer`` become ``Time``.

    :func:`snnfast.nn.replace` leaves them as they are. Unless ``training``, dropout becomes an identity.
    """
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            kind: Any = type(child)
            if kind.__module__.partition(".")[0] != "spikingjelly":
                continue
            same = [base for base in kind.__mro__[1:] if base.__name__ == kind.__name__]
            if kind.__name__ == "SeqToANNContainer":
                setattr(parent, name, MultiStep(nn.Sequential(*child)))  # type: ignore[misc]
            elif kind.__name__ in ("Dropout", "Dropout2d"):
                if not training:
                    setattr(parent, name, nn.Identity())
            elif getattr(child, "step_mode", "s") == "m" and hasattr(nn, kind.__name__) and same:
                child.__class__ = getattr(nn, kind.__name__)
                setattr(parent, name, MultiStep(child))
