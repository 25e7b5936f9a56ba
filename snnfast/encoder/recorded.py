"""Recorded spikes, as pairs of time and neuron, to spike trains in steps and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check

__all__ = ["Recorded", "from_times", "to_times"]


class Recorded(NamedTuple):
    """List of spikes, in order of sample, time and neuron.

    Attributes:
        t: time of each spike ``[S]``, float64, in the unit of ``dt``: the beginning of its step.
        unit: neuron of each spike ``[S]``, int64.
        sample: sample of each spike ``[S]``, int64.
    """

    t: Tensor
    unit: Tensor
    sample: Tensor


def from_times(
    t: Tensor | Sequence[float],
    unit: Tensor | Sequence[int],
    sample: Tensor | Sequence[int] | None = None,
    *,
    neurons: int,
    num_steps: int | None = None,
    dt: float = 1.0,
    batch: int | None = None,
) -> Tensor:
    """Convert recorded times and neurons to spikes in steps of ``dt``.

    A spike at ``t`` falls into step ``floor(t / dt)``. Several spikes of a neuron in a step are one.

    Args:
        t: time of each spike ``[S]``, at least 0, in the unit of ``dt``; a tensor, an array or numbers.
        unit: neuron of each spike ``[S]``, integers in ``[0, neurons)``.
        sample: sample of each spike ``[S]``, integers from 0; None: all are of one sample.
        neurons: number of neurons.
        num_steps: steps; None: up to the last spike. Spikes after them are left out.
        dt: length of a step.
        batch: number of samples; None: up to the last one in ``sample``.

    Returns:
        Spikes ``[T, B, neurons]``, float32, 0 or 1.

    Example:
        >>> from_times([0.5, 2.0, 2.1], [0, 3, 1], neurons=4).shape
        torch.Size([3, 1, 4])

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    op = "from_times"
    neurons = check.integer(op, "neurons", neurons)
    step = check.positive(op, "dt", dt)
    times = _column(op, "t", t).to(torch.float64)
    units = _column(op, "unit", unit, len(times))
    samples = torch.zeros_like(units) if sample is None else _column(op, "sample", sample, len(times))
    if not bool(times.isfinite().all()) or bool((times < 0).any()):
        raise ValueError(f"{op}: t must be finite and at least 0, got {times.min().item():g} to {times.max().item():g}")
    check.in_range(op, "unit", units, 0, neurons - 1)
    index = (times / step).floor().long()
    steps = int(index.max()) + 1 if num_steps is None and len(index) else num_steps
    steps = check.integer(op, "num_steps", 0 if steps is None else steps, 0)
    count = int(samples.max()) + 1 if batch is None and len(samples) else batch
    count = check.integer(op, "batch", 1 if count is None else count)
    check.in_range(op, "sample", samples, 0, count - 1)
    spikes = torch.zeros(steps, count, neurons)
    within = index < steps
    spikes[index[within], samples[within], units[within]] = 1.0
    return spikes


def to_times(spikes: Tensor, dt: float = 1.0) -> Recorded:
    """Convert spikes in steps to times and neurons; the inverse of :func:`from_times`.

    Args:
        spikes: ``[T, B, N]``; anything but 0 is a spike.
        dt: length of a step.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    check.shape("to_times", "spikes", spikes, ("T", "B", "N"))
    step = check.positive("to_times", "dt", dt)
    sample, index, unit = (spikes.detach().transpose(0, 1) != 0).nonzero(as_tuple=True)
    return Recorded(index.to(torch.float64) * step, unit, sample)


def _column(op: str, name: str, values: Any, size: int | None = None) -> Tensor:
    """Convert ``values`` to a tensor with one value per spike, with a ``size`` to integers."""
    try:
        column = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{op}: {name} must be a tensor, an array or numbers: {error}") from None
    if column.dim() != 1 or (size is not None and len(column) != size):
        wanted = "[S]" if size is None else f"[{size}], one a spike"
        raise ValueError(f"{op}: {name} must have shape {wanted}, got {list(column.shape)}")
    if column.is_complex() or (size is not None and len(column) and column.is_floating_point()):
        raise TypeError(f"{op}: {name} must be {'integers' if size is not None else 'numbers'}, got {column.dtype}")
    return column if size is None else column.to(torch.int64)
