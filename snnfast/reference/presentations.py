"""Presentations of stimuli, in the three forms that the ops take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .networks import part
from .poisson import poisson

DTYPES = (torch.bool, torch.uint8, torch.float32, torch.float64)


class Events(NamedTuple):
    """Spikes of P presentations as a list of firing inputs.

    Attributes:
        inputs: int32, the firing inputs of all steps in order; ascending within a step.
        offsets: int64 ``[P, T + 1]``; in step ``t`` of presentation ``p`` the inputs
            ``inputs[offsets[p, t] : offsets[p, t + 1]]`` fire. ``[K, P, T + 1]`` for K networks with
            different presentations.
    """

    inputs: Tensor
    offsets: Tensor

    @classmethod
    def from_dense(cls, spikes: Tensor) -> Events:
        """Return events of ``spikes`` ``[P, T, I]`` or ``[K, P, T, I]``, on its device; anything but 0 is a spike."""
        fired = (spikes != 0).flatten(0, -3)
        ends = fired.flatten(0, 1).sum(1).cumsum(0).view(fired.shape[:2])
        starts = torch.cat([ends.new_zeros(1), ends.flatten()])[: -1 if ends.numel() else None]
        first = starts.view(fired.shape[:2])[:, :1] if ends.numel() else ends.new_zeros((len(ends), 1))
        offsets = torch.cat([first, ends], 1)
        return cls(fired.nonzero()[:, 2].to(torch.int32), offsets.view(*spikes.shape[:-2], offsets.shape[1]))


class Rates(NamedTuple):
    """Firing rates from which Poisson spikes are drawn.

    Presentation ``p`` is ``ops.poisson(hz[p] * (dt / 1000), num_steps, seed=seeds[p])``.

    Attributes:
        hz: float32 ``[P, I]``, each in [0, 1000 / dt]. ``[K, P, I]`` for K networks with different rates.
        num_steps: the number of steps T of a presentation.
        seeds: int64 ``[P]`` on the device of ``hz``, or ``[K, P]``.
    """

    hz: Tensor
    num_steps: int
    seeds: Tensor


class Presentations(NamedTuple):
    """Checked presentations, P of T steps, in one of three forms; the fields of the other forms are None or 0.

    Each tensor but ``inputs`` may have K as an additional first dimension, for networks with different presentations.

    Attributes:
        spikes: ``[P, T, I]``; anything but 0 is a spike.
        inputs, offsets: as in :class:`Events`.
        hz, seeds, num_steps: as in :class:`Rates`.
        per_hz: probability of a spike in a step at 1 Hz.
    """

    spikes: Tensor | None = None
    inputs: Tensor | None = None
    offsets: Tensor | None = None
    hz: Tensor | None = None
    seeds: Tensor | None = None
    num_steps: int = 0
    per_hz: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """P and T."""
        if self.spikes is not None:
            return self.spikes.shape[-3], self.spikes.shape[-2]
        if self.offsets is not None:
            return self.offsets.shape[-2], self.offsets.shape[-1] - 1
        return (0 if self.hz is None else self.hz.shape[-2]), self.num_steps

    def network(self, k: int) -> Presentations:
        """Return the presentations of network ``k``."""
        return self._replace(
            spikes=part(self.spikes, 3, k),
            offsets=part(self.offsets, 2, k),
            hz=part(self.hz, 2, k),
            seeds=part(self.seeds, 1, k),
        )


def presentations(
    op: str, x: object, inputs: int, device: torch.device, dt: float, validate: bool, networks: int | None = None
) -> Presentations:
    """Check presentations for ``inputs`` inputs on ``device``; ``validate`` checks values, too.

    ``networks``: number of networks, which have a presentation each or share one; None: a single network, whose tensors
    have no dimension for it.

    Without ``validate`` the CPU kernels still refuse events that are out of range or do not ascend; on CUDA such events
    are clamped: the result is meaningless, but no other memory is read or written.
    """
    if isinstance(x, Rates):
        checked = rates(op, x, inputs, device, dt, validate, networks)
    elif isinstance(x, Events):
        checked = _events(op, x, inputs, device, validate, networks)
    elif isinstance(x, Tensor):
        _check_tensor(op, "x", x, DTYPES, device, ("P", "T", inputs), networks)
        checked = Presentations(spikes=x.detach())
    else:
        raise TypeError(f"{op}: x must be a tensor, Events or Rates, got {type(x).__name__}")
    size(op, checked.shape[1], inputs)
    return checked


def rates(
    op: str, x: Rates, inputs: int, device: torch.device, dt: float, validate: bool, networks: int | None = None
) -> Presentations:
    """Check rates; return them as presentations."""
    _check_tensor(op, "x.hz", x.hz, (torch.float32,), device, ("P", inputs), networks)
    _check_tensor(op, "x.seeds", x.seeds, (torch.int64,), device, (x.hz.shape[-2],), networks)
    num_steps = check.integer(op, "x.num_steps", x.num_steps, 0)
    if validate:
        check.in_range(op, "x.hz", x.hz, 0.0, 1000.0 / dt, " Hz")
    return Presentations(hz=x.hz.detach(), seeds=x.seeds, num_steps=num_steps, per_hz=dt / 1000.0)


def size(op: str, num_steps: int, count: int, noun: str = "inputs") -> None:
    """Check that indices of the spikes of a presentation fit in 32 bits."""
    if num_steps * max(count, 1) >= 2**31:
        raise ValueError(
            f"{op}: a presentation must have fewer than 2**31 elements, got {num_steps} steps of {count} {noun}"
        )


def _events(
    op: str, x: Events, inputs: int, device: torch.device, validate: bool, networks: int | None
) -> Presentations:
    _check_tensor(op, "x.inputs", x.inputs, (torch.int32,), device, ("spikes",))
    _check_tensor(op, "x.offsets", x.offsets, (torch.int64,), device, ("P", "T + 1"), networks)
    if not x.offsets.shape[-1]:
        raise ValueError(f"{op}: x.offsets must hold where a presentation begins, got T + 1 = 0")
    if check.reads_values(validate, device):
        _check_events(op, x, inputs)
    return Presentations(inputs=x.inputs, offsets=x.offsets)


def _check_events(op: str, x: Events, inputs: int) -> None:
    fired = x.inputs.numel()
    if x.offsets.numel():
        low, high = (int(v) for v in x.offsets.aminmax())
        if low < 0 or high > fired or bool((x.offsets.diff(dim=-1) < 0).any()):
            raise ValueError(
                f"{op}: x.offsets must ascend within each presentation and lie in [0, {fired}], "
                f"got values from {low} to {high}"
            )
    if fired:
        check.in_range(op, "x.inputs", x.inputs, 0, inputs - 1)
        starts = torch.zeros(fired + 1, dtype=torch.bool, device=x.inputs.device)
        starts[x.offsets.flatten()] = True
        if bool(((x.inputs.diff() <= 0) & ~starts[1:-1]).any()):
            raise ValueError(f"{op}: x.inputs must ascend within a step")


def _check_tensor(
    op: str,
    name: str,
    value: Tensor,
    dtypes: tuple[torch.dtype, ...],
    device: torch.device,
    shape: Sequence[str | int],
    networks: int | None = None,
) -> None:
    """Check that ``value`` has one of the ``dtypes`` and the shape ``shape``, or ``[networks, *shape]``."""
    check.tensor(op, name, value)
    check.dtype(op, name, value.dtype, dtypes)
    check.on_device(op, name, value, "w", device)
    check.shape(op, name, value, shape, *([] if networks is None else [(networks, *shape)]))


def spikes_of(x: Presentations, p: int, inputs: int) -> Tensor:
    """Return presentation ``p`` as bool ``[T, I]``."""
    if x.spikes is not None:
        return x.spikes[p] != 0
    if x.inputs is not None and x.offsets is not None:
        offsets = x.offsets[p].tolist()
        spikes = torch.zeros((len(offsets) - 1, inputs), dtype=torch.bool, device=x.inputs.device)
        for t, (begin, end) in enumerate(pairwise(offsets)):
            spikes[t, x.inputs[begin:end].long()] = True
        return spikes
    if x.hz is None or x.seeds is None:
        raise TypeError("presentations: give spikes, or inputs and offsets, or hz and seeds")
    probability = x.hz[p].to(torch.float32) * x.per_hz
    seeds = x.seeds[p : p + 1]
    drawn: Tensor = poisson(probability, x.num_steps, seed=seeds, dtype=torch.bool, validate=False)
    return drawn
