"""SpikingJelly's layers for sequences, as layers of torch.nn in :class:`snnfast.nn.Time`."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snnfast.ops.autograd import traced
from snnfast.ops.layout import tell_format

from .hooks import hooked
from .keys import keys_of
from .library import library_of
from .spike_conv2d import SpikeConv2d
from .spike_linear import SpikeLinear
from .state import Memo, without_graphs
from .time import TIMELESS, Time

__all__ = ["SAMPLE_DIMS", "EachStep", "MultiStep", "in_time", "layers_of_a_step"]

# Layers whose result for an image does not depend on the rest of the batch, with the dimensions of an image.
SAMPLE_DIMS: dict[type[nn.Module], int] = {
    nn.Linear: 1,
    SpikeLinear: 1,
    nn.Conv1d: 2,
    nn.MaxPool1d: 2,
    nn.AvgPool1d: 2,
    nn.Conv2d: 3,
    SpikeConv2d: 3,
    nn.MaxPool2d: 3,
    nn.AvgPool2d: 3,
    nn.Conv3d: 4,
}


class MultiStep(Time):
    """:class:`snnfast.nn.Time` for a layer in SpikingJelly's step mode ``"m"``, with the names of that layer.

    Keys of the state dict, ``named_parameters()`` and ``named_modules()`` have the same names as without it, so that
    optimizers may group parameters by name.

    An input without a gradient on the CPU is compared over the steps: where it is the same at all of them, as images
    after ``repeat(T, 1, 1, 1, 1)``, the layer runs once.

    Args:
        layer: the layer, of torch.nn.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        keys_of(self, "layer")

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x`` ``[T, B, ...]`` -> ``[T, B, ...]``; of a linear layer ``[T, ...]``, too."""
        if lengths is not None:
            return super().forward(x, lengths)
        if isinstance(x, Tensor) and x.dim() < SAMPLE_DIMS.get(type(self.layer), 1) + 2:
            result: Tensor = self.layer(x)
            return result
        return super().forward(x[:1].expand(x.shape) if _is_repeated(x) else x)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield this module and the layer under one name, then the modules inside the layer."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        yield from self.layer.named_modules(memo, prefix, remove_duplicate)

    def __getattr__(self, name: str) -> Any:
        # A forward may read the layer's weights and settings.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        # torch.export puts tensors where named_parameters() has them.
        layer: Any = self._modules.get("layer") if "_modules" in self.__dict__ else None
        for known in () if layer is None else (layer._parameters, layer._buffers):
            if name in known:
                known[name] = value
                return
        super().__setattr__(name, value)

    @property
    def step_mode(self) -> str:
        """Always ``"m"``: a call takes all steps."""
        return "m"

    @step_mode.setter
    def step_mode(self, mode: str) -> None:
        if mode != "m":
            raise ValueError(
                f"{type(self.layer).__name__}: step_mode must be 'm', since its copy takes sequences, got {mode!r}"
            )


class EachStep(MultiStep):
    """Batch normalisation in a loop over the steps: while it trains, it takes the statistics of each step."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x`` ``[T, B, ...]`` -> ``[T, B, ...]``."""
        norm = self.layer  # an identity after fuse
        if isinstance(norm, _BatchNorm) and (norm.training or norm.running_mean is None):
            return tell_format(torch.stack([norm(step) for step in tell_format(x)]))
        return super().forward(x, lengths)


def _is_repeated(x: Tensor) -> bool:
    plain = isinstance(x, Tensor) and not traced() and x.is_cpu and not x.requires_grad
    several = plain and x.dim() > 1 and len(x) > 1 and x.stride(0) != 0
    return several and torch.equal(x[1:], x[:-1])


def in_time(net: nn.Module, *, training: bool) -> nn.Module:
    """Return a copy of ``net`` with :class:`MultiStep` in place of SpikingJelly's layers for sequences.

    These are ``layer.Conv2d`` and its like in step mode ``"m"``, and ``SeqToANNContainer``, which
    :func:`snnfast.nn.replace` leaves as they are. Those with hooks, which see every step, stay. Unless ``training``,
    dropout becomes an identity.
    """
    # deepcopy puts a value of the memo in place of its original everywhere, in lists of layers, too.
    memo = without_graphs(net)
    for layer in net.modules():
        if (wrapper := _in_time(layer, memo, training)) is not None:
            memo[id(layer)] = wrapper
    result: nn.Module = copy.deepcopy(net, memo)
    return result


def layers_of_a_step(net: nn.Module) -> None:
    """Replace ``layer.Conv2d`` and its like in step mode ``"s"`` in ``net`` by the layers of torch.nn."""
    for child in net.modules():
        if plain := _plain(child, "s"):
            child.__class__ = plain


def _plain(layer: Any, mode: str) -> Any:
    """Return the class of torch.nn that a SpikingJelly layer in step mode ``mode`` inherits from; None for others."""
    kind = type(layer)
    plain = getattr(nn, kind.__name__, None)
    known = library_of(kind) == "spikingjelly" and plain in TIMELESS and plain in kind.__mro__
    return plain if known and getattr(layer, "step_mode", "s") == mode else None


def _in_time(layer: nn.Module, memo: Memo, training: bool) -> nn.Module | None:
    """Return the replacement of ``layer``, with a copy of it inside; None if it stays."""
    kind: Any = type(layer)
    if library_of(kind) != "spikingjelly":
        return None
    if kind.__name__ in ("Dropout", "Dropout2d") and not training:
        return nn.Identity()
    if hooked(layer):
        return None
    inner: nn.Module
    if kind.__name__ == "SeqToANNContainer":
        inner = nn.Sequential(OrderedDict(copy.deepcopy(layer, memo)._modules))  # type: ignore[arg-type]
    elif (plain := _plain(layer, "m")) and not getattr(layer, "return_indices", False):
        inner = copy.deepcopy(layer, memo)
        inner.__class__ = plain
    else:
        return None
    result = MultiStep(inner)
    result.training = inner.training = layer.training
    return result
