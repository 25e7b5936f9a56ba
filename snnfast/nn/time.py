"""Stateless layers over a sequence: :class:`Time` folds time into the batch."""

from __future__ import annotations

from torch import Tensor, nn

from .state import Stateful

__all__ = ["Time"]


class Time(nn.Module):
    """Runs layers without time on ``[T, B, ...]``: ``[T, B, ...] -> [T B, ...]``, layers, and back.

    Both foldings are views of contiguous and of channels-last sequences: after a channels-last
    convolution the neurons read its channels-last output in place. Batch normalisation takes its
    statistics over batch and steps; dropout draws anew at every step.

    Args:
        layers: one layer, or several that run one after the other inside one folding.

    Raises:
        ValueError: if a layer needs time itself (an snnfast neuron), if ``x`` has fewer than two
            dimensions, or if the layers change the size of the batch.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        if not layers:
            raise ValueError("Time: give at least one layer")
        self.layer = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
        for module in self.layer.modules():
            if isinstance(module, Stateful):
                raise ValueError(
                    f"Time: takes layers without time, but {type(module).__name__} needs "
                    "[T, B, ...]; put it outside"
                )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[T, B, ...]`` -> ``[T, B, ...]``."""
        if x.dim() < 2:
            raise ValueError(f"Time: x must have shape [T, B, ...], got {list(x.shape)}")
        y: Tensor = self.layer(x.flatten(0, 1))
        if y.dim() == 0 or y.shape[0] != x.shape[0] * x.shape[1]:
            raise ValueError(
                f"Time: the layer must keep the batch of T B = {x.shape[0] * x.shape[1]}, "
                f"got shape {list(y.shape)}"
            )
        return y.view(*x.shape[:2], *y.shape[1:])
