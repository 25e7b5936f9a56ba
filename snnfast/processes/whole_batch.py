"""Random numbers of a batch that several processes share; see :func:`shared`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from . import Processes, random_state, set_random_state
from .batch_norm import over_all_processes

__all__ = ["drawing", "drawn", "is_shared", "shared"]

_DROPOUTS = (*(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), *(nn.AlphaDropout, nn.FeatureAlphaDropout))


class _Share:
    """Share of this process in the current batch, and the random-number states for it."""

    def __init__(self, processes: Processes, total: int, first: int) -> None:
        self.rows, self.total = processes.share(total), total
        self.device = processes.device
        self.count = self.rows.stop - self.rows.start
        self.common = random_state(self.device)  # state of a single process with the whole batch
        self.before: dict[bytes, list[Tensor]] = {}
        self.process_seed = first * processes.size + processes.rank

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Draw random numbers of this process alone inside, except in :meth:`drawing`."""
        try:
            torch.manual_seed(int(torch.randint(2**62, ())) + self.process_seed)
            yield
        finally:
            set_random_state(self.device, self.common)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Draw inside the random numbers that a single process would draw for the whole batch."""
        # Activation checkpointing restores the state of this process and expects the same draws again.
        torch.rand(())
        process_state = random_state(self.device)
        key = process_state[0].numpy().tobytes()
        repeated = key in self.before
        set_random_state(self.device, self.before.setdefault(key, self.common))
        try:
            yield
        finally:
            if not repeated:
                self.common = random_state(self.device)
            set_random_state(self.device, process_state)


_current: _Share | None = None


@contextmanager
def shared(model: nn.Module, processes: Processes, total: int, first: int = 0) -> Iterator[slice]:
    """Make ``model`` compute for a share of a batch, inside, the same as one process for the whole batch.

    Every process must run it with its share, the yielded slice, also if that is empty. Batch normalisation is
    :func:`snnfast.processes.batch_norm.over_all_processes`. Dropout layers, :func:`snnfast.ops.poisson` and the
    encoders draw the numbers of the whole batch, from the random-number state of a single process, and use those of the
    share. Other functions, for example ``functional.dropout`` and ``torch.rand_like``, draw numbers that differ by
    process and batch, and do not advance the generators.

    A backward pass that recomputes parts of the model, by ``torch.utils.checkpoint``, must be inside.

    A share without images draws no dropout: :meth:`Processes.same_random_numbers` must follow.

    Args:
        model: its dropout layers of PyTorch are changed; subclasses of these are not.
        processes: the processes that share the batch.
        total: number of images in the batch.
        first: a number of the batch, part of the seed of the numbers that differ by process.
    """
    global _current
    layers: list[tuple[Any, type]] = [(m, type(m)) for m in model.modules() if type(m) in _KINDS]
    folding = [m for m in model.modules() if getattr(m, "folds_time", False)]
    folded = {inner for module in folding for inner in module.modules()}
    share = _Share(processes, total, first)
    for layer, kind in layers:
        layer.__class__, layer.folded = _KINDS[kind], layer in folded
    _current = share
    try:
        with share.computing(), over_all_processes(model):
            yield share.rows
    finally:
        _current = None
        for layer, kind in layers:
            layer.__class__ = kind
            del layer.folded


def is_shared() -> bool:
    """Return whether several processes share the current batch."""
    return _current is not None


def drawing() -> Any:
    """Return a context in which all processes draw the same numbers, if several share a batch."""
    return nullcontext() if _current is None else _current.drawing()


def drawn(draw: Callable[[Tensor], Tensor], x: Tensor, *, folded: bool = False) -> Tensor:
    """Return ``draw(x)`` for the share ``x`` ``[..., b, ...]`` of a batch, with the draws of a single process.

    ``draw`` is called with the whole batch, with 0 for the shares of other processes, in the memory format of ``x``.

    Args:
        draw: keeps the dimensions, and may append some.
        x: the batch is its first dimension, or its second if only that has the size of the share.
        folded: time and batch are folded into the first dimension, ``T b``.
    """
    if _current is None or not x.numel():
        return draw(x)
    b, B, begin = _current.count, _current.total, _current.rows.start
    second = not folded and x.dim() > 1 and x.shape[1] == b != x.shape[0]
    if not second and (not x.dim() or x.shape[0] % b):
        return draw(x)

    def share(whole: Tensor) -> Tensor:
        if second:
            return whole.narrow(1, begin, b)
        # [T B, ...], or images in parts, [B parts, ...]
        parts = whole.unflatten(0, (-1, B) if folded else (B, -1))
        part: Tensor = parts.narrow(int(folded), begin, b)
        return part

    if folded and x.stride(0) == 0:  # an expanded image can be flattened as a view, several images cannot
        x = x.contiguous()
    strides = list(torch.empty_like(x, device="meta").stride())
    if x.shape[0] == 1:  # the stride of a dimension of size 1 is arbitrary
        strides[0] = x.numel()
    order = sorted(range(x.dim()), key=strides.__getitem__, reverse=True)
    sizes = list(x.shape)
    sizes[second] = sizes[second] // b * B
    whole = torch.empty_permuted(sizes, order, dtype=x.dtype, device=x.device).zero_()
    part = share(whole)
    part.copy_(x.reshape(part.shape))
    with _current.drawing():
        y = draw(whole)
    return share(y).reshape(*x.shape, *y.shape[x.dim() :])


class _Dropout(nn.modules.dropout._DropoutNd):
    folded: bool  # whether time is folded into the batch dimension of the input

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return super().forward(x)  # type: ignore[no-any-return]
        return drawn(super().forward, x, folded=self.folded)


_KINDS: dict[type[nn.Module], type[nn.Module]] = {kind: type(kind.__name__, (_Dropout, kind), {}) for kind in _DROPOUTS}
