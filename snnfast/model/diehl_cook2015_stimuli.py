"""Stimuli for :class:`snnfast.model.DiehlAndCook2015`, made from the shapes and dtypes that it accepts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snnfast import check
from snnfast.ops import Events, Rates

if TYPE_CHECKING:
    from .diehl_cook2015 import DiehlAndCook2015


def stimuli_of(
    model: DiehlAndCook2015, x: Tensor | Events | Rates, seeds: Tensor | None, validate: bool
) -> Tensor | Events | Rates:
    """``x`` and ``seeds`` of :meth:`DiehlAndCook2015.present` as its op takes them."""
    device, n_inputs = model.xe.w.device, math.prod(model.input_shape)
    validate = check.looks(validate, device)
    name, K = type(model).__name__, model.networks
    if isinstance(x, (Events, Rates)):
        if seeds is not None:
            raise ValueError(f"{name}: seeds are for images in Hz, got {type(x).__name__}")
        return x
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: x must be a tensor, Events or Rates, got {type(x).__name__}")
    check.dense(name, "x", x)
    if seeds is not None:
        check.tensor(name, "seeds", seeds)
    x = x.detach().to(device)
    spikes = x.dtype in (torch.bool, torch.uint8)
    if not (spikes or x.is_floating_point()):
        raise TypeError(
            f"{name}: x must be rates in Hz (floating point) or spikes (bool, uint8), got {x.dtype}"
        )
    batches = _before_images(model, x)
    if not spikes and validate and any(batches):
        spikes = _are_spikes(x)
    leading = 2 if spikes else 1
    batch = next(
        (
            b
            for b in batches
            if leading - 1 <= len(b) <= leading or (len(b) == leading + 1 and b[0] == K)
        ),
        None,
    )
    if batch is None:
        image = ", ".join(map(str, model.input_shape))
        wanted = (
            [f"[T, {image}]", f"[P, T, {image}]"] if spikes else [f"[{image}]", f"[P, {image}]"]
        )
        if K is not None:
            wanted.append(f"[{K}, {wanted[-1][1:]}")
        raise ValueError(
            f"{name}: x of {x.dtype} must have shape {' or '.join(wanted)}, got {list(x.shape)}"
        )
    x = x.reshape(*((1,) * (leading - len(batch))), *batch, n_inputs)
    if spikes:
        if seeds is not None:
            raise ValueError(f"{name}: seeds are for images in Hz, got spikes")
        if validate and x.dtype == torch.uint8 and x.numel() and int(x.max()) > 1:
            raise ValueError(
                f"{name}: x of uint8 must be spikes, 0 or 1, got {int(x.max())}; give rates in Hz "
                "as floating point"
            )
        return x.bool() if x.is_floating_point() else x
    if validate and _are_spikes(x):
        raise ValueError(
            f"{name}: x of {x.dtype} must be rates in Hz, but is 0 or 1 everywhere; give spikes as "
            "[T, ...] or [P, T, ...]"
        )
    if seeds is None:
        count = x.shape[-2]
        seeds = model._draws(lambda _: torch.randint(2**63 - 1, (count,)))
    return Rates(x.float(), model.settings.num_steps, seeds.to(device))


def _are_spikes(x: Tensor) -> bool:
    """Whether all values are 0 or 1, and one is 1."""
    return bool(x.numel()) and float(x.max()) == 1 and bool(((x == 0) | (x == 1)).all())


def _before_images(model: DiehlAndCook2015, x: Tensor) -> list[tuple[int, ...]]:
    """Sizes of the dimensions before an image's, as they may be read, first with ``input_shape`` or flat images."""
    pixels = math.prod(model.input_shape)
    first = [len(s) for s in (model.input_shape, (pixels,)) if tuple(x.shape[-len(s) :]) == s]
    ends = [*(x.dim() - n for n in first), *range(x.dim())]
    return [tuple(x.shape[:k]) for k in ends if math.prod(x.shape[k:]) == pixels]
