"""Integrate-and-fire neurons in place of a ReLU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check


class Neurons(nn.Module):
    """Integrate-and-fire neurons in place of a ReLU: ``h[t] = v[t-1] + x[t]``, a spike where ``h >= threshold``.

    A spike has the size ``threshold`` in the units of the ReLU's activations, so that ``rate * threshold`` is the
    activation, as long as that is at most the threshold. With ``unit_spikes`` it has the size 1.

    ``like`` is a tensor of the dtype and device of the images.

    Attributes:
        threshold: a scalar or one value per channel, ``[C, 1, ...]``; NaN until it is calibrated.
        shape: shape of the activations of one image; None until :meth:`fit` was called.
        reset: "soft" subtracts the threshold at a spike, "hard" sets the membrane to 0.
        initial: membrane before the first step, as a fraction of the threshold.
    """

    threshold: Tensor
    shape: tuple[int, ...] | None = None

    def __init__(self, reset: str, initial: float, like: Tensor, unit_spikes: bool) -> None:
        super().__init__()
        self.reset, self.initial, self.unit_spikes = reset, initial, unit_spikes
        dtype = check.state_dtype(like.dtype)
        self.register_buffer("threshold", torch.tensor(math.nan, dtype=dtype, device=like.device))

    @property
    def v_reset(self) -> float | None:
        """The argument ``v_reset`` of the ops."""
        return None if self.reset == "soft" else 0.0

    def checked(self, value: object, name: str) -> Tensor:
        """Return ``value`` as a threshold in the right shape; check that it is positive. Errors call it ``name``."""
        try:
            result = torch.as_tensor(value, dtype=self.threshold.dtype, device=self.threshold.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name} must be a number or a tensor of numbers, got {type(value).__name__}") from None
        if not (result.numel() and result.isfinite().all() and (result > 0).all()):
            raise ValueError(f"{name} must be positive and finite, got {_short(result)}")
        return self._by_channel(result.detach().clone(), name)

    def fit(self, shape: Sequence[int], name: str) -> None:
        """Set the shape of the activations of one image; errors call the threshold ``name``."""
        before, self.shape = self.shape, tuple(shape)
        try:
            self.threshold = self._by_channel(self.threshold, name)
        except ValueError:
            self.shape = before
            raise

    def _by_channel(self, value: Tensor, name: str) -> Tensor:
        """Return a single number as a scalar, one per channel as ``[C, 1, ...]``."""
        if value.numel() == 1:
            return value.view(())
        if self.unit_spikes:
            raise ValueError(
                f"{name} must be a number, since with unit_spikes a spike counts the same for every channel, got "
                f"{list(value.shape)}"
            )
        channels = value.shape[:1] if self.shape is None else self.shape[:1]
        if tuple(value.shape[:1]) != tuple(channels) or value.numel() != len(value):
            size = "C" if self.shape is None else channels[0] if channels else 1
            raise ValueError(
                f"{name} must be a number or one a channel, [{size}] or [{size}, 1, ...], got {list(value.shape)}"
            )
        dims = value.dim() if self.shape is None else len(self.shape)
        return value.view(-1, *(1,) * (dims - 1))

    def rest(self, like: Tensor) -> Tensor:
        """Return the membrane before the first step, for the input current ``like`` of one step."""
        dtype = check.state_dtype(like.dtype)
        return (self.threshold.to(dtype) * self.initial).expand(like.shape).contiguous()

    def extra_repr(self) -> str:
        """Return the constants."""
        return f"threshold={_short(self.threshold)}, reset={self.reset!r}, initial={self.initial:g}"

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        key = f"{prefix}threshold"
        value = state_dict.get(key)
        if isinstance(value, Tensor):
            try:
                # NaN marks a threshold that was not calibrated.
                value = value if bool(value.isnan().all()) else self.checked(value, key)
            except ValueError as error:
                args[-1].append(str(error))
                return
            self.threshold = self.threshold.new_full(value.shape, math.nan)
            state_dict = {**state_dict, key: value}
        super()._load_from_state_dict(state_dict, prefix, *args)


def _short(value: Tensor) -> str:
    if value.numel() == 1:
        return f"{value.item():g}"
    sizes = f"[{', '.join(map(str, value.shape))}]"
    if not value.numel():
        return sizes
    return f"{sizes} from {value.min().item():g} to {value.max().item():g}"
