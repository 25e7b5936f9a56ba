"""Layers in a row that share the lengths of a batch: :class:`Sequential`."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from torch import Tensor, nn

from .time import refuse_without_time

__all__ = ["Sequential"]


class Sequential(nn.Sequential):
    """``nn.Sequential`` that passes ``lengths`` to every layer that takes them.

    Those are :class:`snnfast.nn.Time`, the readouts, another ``Sequential`` of this
    package, and layers of yours with an argument ``lengths``. Neurons need none: steps beyond the end of a sample come
    after all that counts.

    Example:
        >>> net = snnfast.nn.Sequential(Time(nn.Linear(700, 128)), LIF(), Time(nn.Linear(128, 20)), LI(), Max())
        >>> net(x, lengths)                                  # x [T, B, 700], lengths [B] -> [B, 20]

    Raises:
        TypeError: with ``lengths``, for an ``nn.Sequential`` of PyTorch inside, which would keep them from its layers.
        ValueError: for a convolution, pooling or batch normalisation outside of ``Time``.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Any:
        """``x`` ``[T, B, ...]`` through every layer.

        Args:
            x: sequence.
            lengths: steps of each sample, integers ``[B]`` from 1 to ``T``; all if None.
        """
        for index, layer in enumerate(self):
            refuse_without_time("Sequential", f"layer {index}", layer, x)
            if lengths is None:
                x = layer(x)
            elif _takes_lengths(type(layer)):  # type: ignore[arg-type]
                x = layer(x, lengths=lengths)
            elif type(layer) is nn.Sequential:
                raise TypeError(
                    f"Sequential: layer {index} is an nn.Sequential of PyTorch, which does not pass lengths on; use "
                    "snnfast.nn.Sequential inside, too"
                )
            else:
                x = layer(x)
        return x


@cache
def _takes_lengths(kind: Any) -> bool:
    return "lengths" in inspect.signature(kind.forward).parameters
