"""Views that bring tensors into the layouts the kernels read in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .autograd import traced


def dense_order(x: Tensor) -> list[int] | None:
    """Return the dimension order, time first, that makes the steps of ``x`` contiguous; None if not needed or possible.

    A channels-last ``[T, B, C, H, W]`` gives ``[0, 1, 3, 4, 2]``: in the permuted view every time step is contiguous,
    which is all the kernels need, so nothing is copied. The steps themselves may lie anywhere, or be one step
    expanded over time.
    """
    if x.is_contiguous() or x.dim() < 3 or x.numel() == 0:
        return None
    row, strides = x[0], x.stride()[1:]
    order: list[int] = []
    for d in range(len(strides)):  # sorted by comparisons alone, which torch.compile can do
        place = len(order)
        while place and strides[order[place - 1]] < strides[d]:
            place -= 1
        order.insert(place, d)
    if order == list(range(row.dim())) or not row.permute(order).is_contiguous():
        return None
    return [0, *(d + 1 for d in order)]


def tell_format(x: Tensor) -> Tensor:
    """Return a view of images whose strides tell their memory format also where a size is 1; so do its gradient's.

    Such a stride addresses nothing, but PyTorch reads the format from it: with strides ``(C, 1, W C, C)`` of a single
    image, which ``view`` and ``unsqueeze`` make, the gradients of its normalisations on the CPU are wrong.
    """
    if x.dim() < 4 or 1 not in x.shape or x.numel() == 0 or traced():
        return x
    backwards = list(reversed(range(x.dim())))
    varying = [dim for dim in backwards if x.shape[dim] > 1]
    channel = [dim for dim in varying[1:] if x.stride(dim) == 1]
    strides, least = list(x.stride()), 1
    for dim in (*channel, *(d for d in backwards if d not in channel)):
        if x.shape[dim] == 1:
            strides[dim] = least
        least = max(least, strides[dim] * x.shape[dim])
    # the backward pass of as_strided lays the gradient out as x
    return x.as_strided(x.shape, strides)


def permute_neurons(value: Tensor | float | None, order: Sequence[int]) -> Tensor | float | None:
    """Permute a state or parameter, which has no time dimension, like its sequence."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    neurons = len(order) - 1
    full = value.reshape((1,) * (neurons - value.dim()) + tuple(value.shape))
    return full.permute([d - 1 for d in order[1:]])


def inverse(order: Sequence[int]) -> list[int]:
    """Return the inverse of the permutation ``order``."""
    return sorted(range(len(order)), key=order.__getitem__)


def parameter_run(value: Tensor, neurons: Sequence[int]) -> Tensor:
    """Return a parameter as kernels read it: one run of full dimensions with 1s around it, or else expanded."""
    shape = list(value.shape)
    while shape and shape[-1] == 1:
        shape.pop()
    sizes = list(neurons[: len(neurons) - (value.dim() - len(shape))])
    while shape and shape[-1] == sizes[-1]:
        shape.pop()
        sizes.pop()
    return value if all(s == 1 for s in shape) else value.expand(tuple(neurons))


def batched(
    flat: Sequence[Any], in_dims: Sequence[int | None], at_x: int, batch_at: dict[int, int], size: int
) -> list[Any]:
    """Return the plain arguments with the batch as the first dimension of the neurons.

    ``batch_at``: index of that dimension, for arguments with others before it. The remaining arguments lack those, and
    may lack dimensions of neurons, too.
    """

    def before(value: Tensor, dim: int | None, index: int) -> Tensor:
        if dim is not None:
            return value.movedim(dim, index)
        shape = value.shape
        return value.unsqueeze(index).expand(*shape[:index], size, *shape[index:])

    neurons = before(flat[at_x], in_dims[at_x], 1).shape[1:]

    def broadcast(value: Tensor, dim: int | None) -> Tensor:
        if dim is None:
            return value.expand(neurons)
        value = value.movedim(dim, 0)
        missing = len(neurons) - value.dim()
        return value.reshape(size, *(1,) * missing, *value.shape[1:]).expand(neurons)

    def with_batch(k: int, value: Any, dim: int | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        if k not in batch_at:
            return broadcast(value, dim)
        moved = before(value, dim, batch_at[k])
        return moved if batch_at[k] == 1 else moved.contiguous()

    return [with_batch(k, value, dim) for k, (value, dim) in enumerate(zip(flat, in_dims))]


def one_by_one(kernel: Any) -> Callable[..., Any]:
    """Vmap rule of a kernel: one call per sample, each with separate weights and weight gradients."""

    def mapped(info: Any, in_dims: tuple[int | None, ...], *flat: Any) -> Any:
        def call(k: int) -> Any:
            return kernel(*(v.select(d, k) if isinstance(d, int) else v for v, d in zip(flat, in_dims)))

        if info.batch_size:
            found = list(map(call, range(info.batch_size)))
            if isinstance(found[0], Tensor):
                return torch.stack(found), 0
            outputs = tuple(map(torch.stack, zip(*found)))
        else:  # shapes come from a sample of zeros, made by sums over no samples, which have a graph for gradients
            zeros = [v.sum(d, dtype=v.dtype) if isinstance(d, int) else v for v, d in zip(flat, in_dims)]
            of_zeros = kernel(*zeros)
            if isinstance(of_zeros, Tensor):
                return of_zeros[None][:0], 0
            outputs = tuple(value[None][:0] for value in of_zeros)
        return outputs, (0,) * len(outputs)

    return mapped
