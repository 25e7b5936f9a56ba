"""Multiplication of a sequence by constants."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Scale"]


class Scale(nn.Module):
    """``y = scale x``, element by element; ``scale`` broadcasts to ``x.shape[1:]`` and is a buffer."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, ...]`` -> the same."""
        return x * self.scale

    def extra_repr(self) -> str:
        """Return its shape."""
        return f"scale={list(self.scale.shape)}"
