"""SpikingJelly's layers that take sequences, as torch.nn's in :class:`snnfast.nn.Time`."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..keys import keys_of
from ..time import Time

__all__ = ["MultiStep", "in_time"]


class MultiStep(Time):
    """:class:`snnfast.nn.Time` for a layer in SpikingJelly's step mode ``"m"``, with the keys of that layer.

    Args:
        layer: the layer, of torch.nn.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        keys_of(self, "layer")

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
