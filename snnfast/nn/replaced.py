"""Interface of the layers that :mod:`snnfast.ports` makes of another library's neurons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

__all__ = ["Replaced"]


class Replaced:
    """Interface of a layer that replaces another library's neuron, for code that observes it, such as a monitor.

    Attributes:
        fires: whether it returns spikes, or spikes first; else it returns membranes.
        time_dim: dimension of the steps in inputs and outputs of a call; None: a call is a step.
        store_v_seq: store the membranes of a call, those that the library returns, as ``v_seq`` ``[T, B, ...]``.
    """

    # States are saved as in the other library: not at all, or as buffers.
    saved: ClassVar[bool] = False
    fires = True
    time_dim: int | None = 0
    store_v_seq = False
    v_seq: Tensor | None = None

    @property
    def most(self) -> float:
        """Largest number of spikes of a neuron in a step."""
        return 1

    def time_first(self, t: Tensor) -> Tensor:
        """Return ``t``, an input or output of a call, as ``[T, B, ...]``."""
        return t.unsqueeze(0) if self.time_dim is None else t.movedim(self.time_dim, 0)

    def products(self, x: Tensor, spikes: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the products inside its kernel, as name, weight ``[O, I]`` and multiplied tensor ``[..., I]``.

        Args:
            x: its input, ``[T, B, ...]``.
            spikes: its output spikes, likewise.
        """
        return iter(())
