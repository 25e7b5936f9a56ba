"""Tensors that a kernel changes in place."""

from __future__ import annotations

import torch
from torch import Tensor


def buffer(tensor: Tensor) -> Tensor:
    """Return the tensor that a kernel changes in place: ``tensor`` itself where it is contiguous, else a copy."""
    if not tensor.numel():  # contiguous to PyTorch with any strides
        return tensor.new_empty(tensor.shape)
    return tensor.detach().contiguous()


def changed(*tensors: tuple[Tensor, Tensor]) -> None:
    """Write the result of a kernel back into ``tensors``, pairs of a tensor and its changed :func:`buffer`.

    This increments their versions, so that a backward pass that needs the old values raises.
    """
    for tensor, result in tensors:
        if not tensor.is_contiguous():
            tensor.detach().copy_(result)
        else:
            raise_versions(tensor)


def raise_versions(*tensors: Tensor) -> None:
    """Increment the versions of ``tensors``, so that a backward pass that needs their old values raises."""
    if not torch.compiler.is_compiling():  # compiled code does it itself
        torch.autograd.graph.increment_version([t for t in tensors if not t.is_inference()])
