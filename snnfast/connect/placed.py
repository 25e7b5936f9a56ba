"""Copies of tensors on a GPU, kept with the object that owns the tensors."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from snnfast import check

__all__ = ["placed"]


def placed(
    copies: dict[Any, tuple[Tensor, ...]], key: Hashable, device: torch.device, make: Callable[[], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Return the tensors of ``make`` on ``device``.

    Args:
        copies: those on GPUs, which are made at first use and kept here.
        key: which of the owner's tensors they are.
        device: where kernels read them.
        make: returns the tensors on the CPU.
    """
    if device.type == "cpu":
        return make()
    found = copies.get((device, key))
    if found is None:
        found = tuple(tensor.to(device) for tensor in make())
        if not check.is_recorded(device):  # a trace has no values to keep
            copies[device, key] = found
    return found
