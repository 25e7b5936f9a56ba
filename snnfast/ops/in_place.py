"""Tensors that a kernel changes in place."""

from __future__ import annotations

import torch
from torch import Tensor


def buffer(tensor: Tensor) -> Tensor:
    """Return the tensor that a kernel changes in place: ``tensor`` itself where it is contiguous, else a copy."""
    if not tensor.numel():  # called contiguous whatever its strides are
        return tensor.new_empty(tensor.shape)
    return tensor.detach().contiguous()


def changed(*tensors: tuple[Tensor, Tensor]) -> None:
    """Gives ``tensors``, pairs of a tensor and its changed :func:`buffer`, what the kernel made.

    It raises their versions: a backward pass that needs the old values then says so.
    """
    for tensor, made in tensors:
        if not tensor.is_contiguous():
            tensor.detach().copy_(made)
        else:
            raise_versions(tensor)


def raise_versions(*tensors: Tensor) -> None:
    """Makes a backward pass that needs ``tensors`` as they were say so."""
    if not torch.compiler.is_compiling():  # what is compiled does it itself
        torch.autograd.graph.increment_version([t for t in tensors if not t.is_inference()])
