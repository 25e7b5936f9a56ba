"""Random numbers of a batch of which each of several processes has a share: :func:`shared`."""

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
        self.common = random_state(self.device)  # of one process that computes the whole batch
        self.before: dict[bytes, list[Tensor]] = {}
        self.own_seed = first * processes.size + processes.rank

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Draw this process's own random numbers inside, except in :meth:`drawing`."""
        try:
            torch.manual_seed(int(torch.randint(2**62, ())) + self.own_seed)
            yield
        finally:
            set_random_state(self.device, self.common)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Draw inside the random numbers that a single process would draw for the whole batch."""
        # Activation checkpoints bring own numbers back to where they were, and want what was drawn there once more.
        torch.rand(())
        own = random_state(self.device)
        place = own[0].numpy().tobytes()
        again = place in self.before
        set_random_state(self.device, self.before.setdefault(place, self.common))
        try:
            yield
        finally:
            if not again:
                self.common = random_state(self.device)
            set_random_state(self.device, own)


_now: _Share | None = None


@contextmanager
def shared(model: nn.Module, processes: Processes, total: int, first: int = 0) -> Iterator[slice]:
    """While inside, ``model`` computes for a share of a batch what one process computes for it in the whole batch.

    Every process has to run it with its share, the slice that is given, also where that is empty. Batch normalisation
    is :func:`snnfast.processes.batch_norm.over_all_processes`. Dropout layers, :func:`snnfast.ops.poisson`
    and the encoders draw the numbers of the whole batch, from generators in the state in which one process would have
    them, and use those of the share. Whatever else draws, ``functional.dropout`` and ``torch.rand_like`` for example,
    draws numbers that differ by process and batch, and moves no generator.

    A backward pass that computes parts of the model again, by ``torch.utils.checkpoint``, has to be inside.

    A share without images draws no dropout: :meth:`Processes.same_random_numbers` has to follow.

    Args:
        model: its dropouts of PyTorch take part; subclasses of these are left as they are.
        processes: those that share the batch.
        total: its images.
        first: a number of the batch, by which own numbers differ.
    """
    global _now
    layers: list[tuple[Any, type]] = [(m, type(m)) for m in model.modules() if type(m) in _KINDS]
    folding = [m for m in model.modules() if getattr(m, "folds_time", False)]
    folded = {inner for module in folding for inner in module.modules()}
    share = _Share(processes, total, first)
    for layer, kind in layers:
        layer.__class__, layer.folded = _KINDS[kind], layer in folded
    _now = share
    try:
        with share.computing(), over_all_processes(model):
            yield share.rows
    finally:
        _now = None
        for layer, kind in layers:
            layer.__class__ = kind
            del layer.folded


def is_shared() -> bool:
    """Whether several processes share the batch that is computed now."""
    return _now is not None


def drawing() -> Any:
    """A context of which every process draws the same numbers, if several share a batch."""
    return nullcontext() if _now is None else _now.drawing()


def drawn(draw: Callable[[Tensor], Tensor], x: Tensor, *, folded: bool = False) -> Tensor:
    """``draw(x)`` ``[..., b, ...]`` as one process would draw it, for the share ``x`` ``[..., b, ...]`` of a batch.

    ``draw`` sees the whole batch, with 0 in the place of what other processes have, in the memory format of ``x``.

    Args:
        draw: keeps the dimensions, and may add some at the end.
        x: the batch is its first dimension, or its second where that alone has the size of the share.
        folded: the first dimension is that of time and batch, ``T b``.
    """
    if _now is None or not x.numel():
        return draw(x)
    b, B, begin = _now.count, _now.total, _now.rows.start
    second = not folded and x.dim() > 1 and x.shape[1] == b != x.shape[0]
    if not second and (not x.dim() or x.shape[0] % b):
        return draw(x)

    def share(whole: Tensor) -> Tensor:
        if second:
            return whole.narrow(1, begin, b)
        # [T B, ...], or images in parts, [B parts, ...]
        parts = whole.unflatten(0, (-1, B) if folded else (B, -1))
        own: Tensor = parts.narrow(int(folded), begin, b)
        return own

    if folded and x.stride(0) == 0:  # what flattens to a view of one image does not of several
        x = x.contiguous()
    strides = list(torch.empty_like(x, device="meta").stride())
    if x.shape[0] == 1:  # which may lie anywhere
        strides[0] = x.numel()
    order = sorted(range(x.dim()), key=strides.__getitem__, reverse=True)
    sizes = list(x.shape)
    sizes[second] = sizes[second] // b * B
    whole = torch.empty_permuted(sizes, order, dtype=x.dtype, device=x.device).zero_()
    own = share(whole)
    own.copy_(x.reshape(own.shape))
    with _now.drawing():
        y = draw(whole)
    return share(y).reshape(*x.shape, *y.shape[x.dim() :])


class _Dropout(nn.modules.dropout._DropoutNd):
    folded: bool  # whether time is folded into the batch that it is given

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return super().forward(x)  # type: ignore[no-any-return]
        return drawn(super().forward, x, folded=self.folded)


_KINDS: dict[type[nn.Module], type[nn.Module]] = {kind: type(kind.__name__, (_Dropout, kind), {}) for kind in _DROPOUTS}
