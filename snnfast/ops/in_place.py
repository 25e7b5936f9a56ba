"""Tensors that a kernel changes in place."""

from __future__ import annotations

import torch
from torch import Tensor


def buffer(tensor: Tensor) -> Tensor:
    """What a kernel is given to change: ``tensor`` itself where it is contiguous, else a copy."""
    return tensor.detach().contiguous()


def changed(*tensors: tuple[Tensor, Tensor]) -> None:
    """Gives ``tensors``, pairs of a tensor and its changed :func:`buffer` (or itself), what the kernel made.

    It raises their versions: a backward pass that needs the old values then says so.
    """
    for tensor, made in tensors:
        if made is not tensor and not tensor.is_contiguous():
            tensor.detach().copy_(made)
        elif not torch.compiler.is_compiling() and not tensor.is_inference():
            torch.autograd.graph.increment_version(tensor)
