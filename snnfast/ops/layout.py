"""Views that bring tensors into the layouts the kernels read in place."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def dense_order(x: Tensor) -> list[int] | None:
    """The order of ``x``'s dimensions in memory, time first, if it makes the rows contiguous and differs from theirs.

    A channels-last ``[T, B, C, H, W]`` gives ``[0, 1, 3, 4, 2]``: in the permuted view every time step is contiguous,
    which is all the kernels need, so nothing is copied. The steps themselves may lie anywhere, or be one step
    expanded over time.
    """
    if x.is_contiguous() or x.dim() < 3 or x.numel() == 0:
        return None
    row = x[0]
    order = sorted(range(row.dim()), key=row.stride, reverse=True)
    if order == list(range(row.dim())) or not row.permute(order).is_contiguous():
        return None
    return [0, *(d + 1 for d in order)]


def permute_neurons(value: Tensor | float | None, order: Sequence[int]) -> Tensor | float | None:
    """A state or parameter, which lacks the time dimension, in the dimension order of its permuted sequence."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    neurons = len(order) - 1
    full = value.reshape((1,) * (neurons - value.dim()) + tuple(value.shape))
    return full.permute([d - 1 for d in order[1:]])


def inverse(order: Sequence[int]) -> list[int]:
    """The permutation that undoes ``order``."""
    return sorted(range(len(order)), key=order.__getitem__)


def parameter_run(value: Tensor, neurons: Sequence[int]) -> Tensor:
    """A parameter as kernels read it: one run of full dimensions with 1s around it; anything else is expanded."""
    shape = list(value.shape)
    while shape and shape[-1] == 1:
        shape.pop()
    sizes = list(neurons[: len(neurons) - (value.dim() - len(shape))])
    while shape and shape[-1] == sizes[-1]:
        shape.pop()
        sizes.pop()
    return value if all(s == 1 for s in shape) else value.expand(tuple(neurons))
