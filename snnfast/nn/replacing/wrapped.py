"""SpikingJelly's layers that take sequences, as torch.nn's in :class:`snnfast.nn.Time`, to go elsewhere."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..time import Time

__all__ = ["in_time"]


def in_time(net: nn.Module) -> None:
    """Changes ``net``: ``layer.Conv2d`` and its like in step mode ``"m"`` and ``SeqToANNContainer`` become ``Time``.

    :func:`snnfast.nn.replace` leaves them as they are. Dropout becomes an identity, as in evaluation.
    """
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            kind: Any = type(child)
            if kind.__module__.partition(".")[0] != "spikingjelly":
                continue
            same = [base for base in kind.__mro__[1:] if base.__name__ == kind.__name__]
            if kind.__name__ == "SeqToANNContainer":
                setattr(parent, name, Time(*child))  # type: ignore[misc]
            elif kind.__name__ in ("Dropout", "Dropout2d"):
                setattr(parent, name, nn.Identity())
            elif getattr(child, "step_mode", "s") == "m" and hasattr(nn, kind.__name__) and same:
                child.__class__ = getattr(nn, kind.__name__)
                setattr(parent, name, Time(child))
