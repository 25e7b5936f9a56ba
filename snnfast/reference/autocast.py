"""Casts of the arguments of products under ``torch.autocast``, as for PyTorch's own functions."""

from __future__ import annotations

import torch
from torch import Tensor


def autocast(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast under autocast as PyTorch casts the arguments of ``linear`` and ``conv2d``: no float64, no integers."""
    kind = x.device.type
    if kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(kind)

    def cast(value: Tensor) -> Tensor:
        casts = value.is_floating_point() and value.dtype != torch.float64
        return value.to(dtype) if casts else value

    return cast(x), cast(weight), None if bias is None else cast(bias)
